"""What an HDF5 file declares, found without reading its numbers, and refused where reading them would not be safe."""

from __future__ import annotations

import math
import os
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np

from tfexplore.exchange.graph import DEEPEST, MOST_EDGES

MOST_OBJECTS = 50_000  # groups, data sets and texts, read at under a millisecond each; a node has up to eleven
MOST_CHUNKS = 100_000
MOST_LETTERS = 1_000  # of a name
DEEPEST_GROUP = 3 * DEEPEST + 4  # two for each sub-graph, one for each level of metadata
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # the filters of HDF5 that are read


class Survey:
    """Walks a file's groups, reading no data; counts what is declared, and refuses (in a ValueError that says where)."""

    def __init__(self, h5py: Any, raw: BinaryIO, most_bytes: int) -> None:
        self.h5py, self.raw, self.most_bytes = h5py, raw, most_bytes
        self.file_bytes = os.fstat(raw.fileno()).st_size
        self.bytes = self.chunks = self.objects = 0
        self.groups: set[int] = set()
        self.collections: dict[int, dict[int, tuple[int, int]]] = {}

    def members(self, group: Any, where: str, depth: int, only: str | None = None) -> dict[str, Any]:
        """What a group has, as a dictionary: data sets unread, groups as dictionaries. `only` this one of them."""
        if depth > DEEPEST_GROUP:
            raise ValueError(f"{where[:80]} ... is {depth} groups deep, at most {DEEPEST_GROUP} are read.")
        address = self.h5py.h5o.get_info(group.id).addr
        if address in self.groups:
            raise ValueError(f"the group {where} is reached by two ways (hard links); groups must be a tree.")
        self.groups.add(address)
        self.more_objects(len(group))
        if only is not None and not group.id.links.exists(only.encode()):
            raise ValueError(f"the file has no group {only!r}, in which NIR's graph would be.")
        return {name: self.member(group, name, where, depth) for name in ([only] if only else group)}

    def member(self, group: Any, name: str, where: str, depth: int) -> Any:
        where = f"{where}/{name}" if where else name
        if len(name) > MOST_LETTERS or not name.isprintable():
            raise ValueError(f"the name {name[:80]!r} must be printable, of at most {MOST_LETTERS:,} letters.")
        # of the link itself: `in` and `get(getlink=True)` of h5py open the file that an external link names
        if group.id.links.get_info(name.encode()).type != self.h5py.h5l.TYPE_HARD:
            raise ValueError(f"{where} is a soft or external link, which is not followed.")
        found = group[name]
        if isinstance(found, self.h5py.Group):
            return self.members(found, where, depth + 1)
        if not isinstance(found, self.h5py.Dataset):
            raise ValueError(f"{where} must be a group or a data set, but is a {type(found).__name__}.")
        return self.dataset(found, where)

    def dataset(self, found: Any, where: str) -> Any:
        """Refuses what is not plain numbers or text in this file, and counts its bytes. Text is read, numbers are not."""
        h5d, h5t = self.h5py.h5d, self.h5py.h5t
        plan = found.id.get_create_plist()
        if plan.get_layout() == h5d.VIRTUAL or plan.get_external_count():
            raise ValueError(f"{where} is stored in another file (virtual or external storage), which is not followed.")
        space = found.id.get_space()
        if space.get_simple_extent_type() == self.h5py.h5s.NULL:
            raise ValueError(f"{where} has no data.")
        form, shape = found.id.get_type(), space.get_simple_extent_dims()
        elements = math.prod(shape)
        if isinstance(form, h5t.TypeStringID):
            if elements > 2 * MOST_EDGES:
                raise ValueError(
                    f"{where} has {elements:,} texts, at most {MOST_EDGES:,} edges, two names each, are read."
                )
            if form.is_variable_str():
                return self.texts(found, where, shape)
        elif not isinstance(form, h5t.TypeFloatID | h5t.TypeIntegerID) and found.dtype != bool:
            raise ValueError(f"{where} must be numbers or text, but is a {type(form).__name__} of HDF5.")
        self.count(elements * form.get_size(), where)
        if plan.get_layout() == h5d.CHUNKED:
            self.chunked(found, where, shape, plan)
        return found

    def more_objects(self, new: int) -> None:
        self.objects += new
        if self.objects > MOST_OBJECTS:
            raise ValueError(f"the file has more than {MOST_OBJECTS:,} groups, data sets and texts.")

    def count(self, new: int, where: str) -> None:
        self.bytes += new
        if self.bytes > self.most_bytes:
            raise ValueError(
                f"the file declares more than most_bytes = {self.most_bytes:,} bytes of data: with {where} it is {self.bytes:,}."
            )

    def texts(self, found: Any, where: str, shape: tuple[int, ...]) -> Any:
        """Texts of variable length: a str, or nested lists. Read here: libhdf5 2.0 does not return from some damaged heaps.

        HDF5's format (III.E, "Global Heap"): an element is a length (4 bytes), the address of a collection (8) and an index in
        it (4). Many elements may point to one long text, so their lengths are counted first.
        """
        offset = found.id.get_offset()
        if offset is None or found.file.id.get_create_plist().get_sizes() != (8, 8):
            raise ValueError(
                f"{where} must have its text stored contiguously, with addresses of 8 bytes, as h5py does."
            )
        elements = list(struct.iter_unpack("<IQI", self.stored(offset, math.prod(shape) * 16, where)))
        self.count(sum(length for length, _, _ in elements), where)
        texts = np.empty(len(elements), object)
        for i, (length, address, index) in enumerate(elements):
            place, size = self.collection(address, where).get(index, (0, 0)) if length else (0, 0)
            if length > size:
                raise ValueError(f"{where} is damaged: its text is not where it should be.")
            try:
                texts[i] = self.stored(place, length, where).decode()
            except UnicodeDecodeError:
                raise ValueError(f"{where} must be text in UTF-8.") from None
        return texts.reshape(shape).tolist()

    def collection(self, address: int, where: str) -> dict[int, tuple[int, int]]:
        """The objects in a collection of the global heap: where each begins, and how long it is, by their indices."""
        if address in self.collections:
            return self.collections[address]
        mark, end = struct.unpack("<4s4xQ", self.stored(address, 16, where))
        found, place = self.collections.setdefault(address, {}), address + 16
        while mark == b"GCOL" and place + 16 <= min(address + end, self.file_bytes):
            index, size = struct.unpack("<H6xQ", self.stored(place, 16, where))
            if index == 0:  # the free space
                break
            found[index] = (place + 16, size)
            place += 16 + -(-size // 8) * 8
            self.more_objects(1)
        return found

    def stored(self, offset: int, size: int, where: str) -> bytes:
        """These bytes of the file."""
        if offset + size > self.file_bytes:
            raise ValueError(f"{where} lies behind the file's end.")
        self.raw.seek(offset)
        return self.raw.read(size)

    def chunked(self, found: Any, where: str, shape: tuple[int, ...], plan: Any) -> None:
        """Counts chunks, and inflates each, up to its size: a gzip stream may hold a thousand times what it should."""
        chunk = plan.get_chunk()
        self.chunks += (declared := math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True)))
        if self.chunks > MOST_CHUNKS:
            raise ValueError(f"{where} is cut into too many chunks, at most {MOST_CHUNKS:,} are read.")
        filters = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
        if set(filters) - {DEFLATE, SHUFFLE, FLETCHER32} or len(set(filters)) < len(filters):
            raise ValueError(
                f"{where} must be stored plainly or with gzip, shuffle, fletcher32, but has the filters {filters}."
            )
        size = math.prod(chunk) * found.id.get_type().get_size()
        self.count(size, where)  # a chunk may be larger than its data set
        stored: list[Any] = []

        def note(info: Any) -> bool | None:
            stored.append(info)
            return True if len(stored) > declared else None  # True ends the walk

        found.id.chunk_iter(note)
        if len(stored) > declared:
            raise ValueError(f"{where} has more chunks than it declares.")
        for info in stored:
            inflated = info.size
            if DEFLATE in filters and not info.filter_mask & (1 << filters.index(DEFLATE)):
                stream = zlib.decompressobj()
                try:
                    inflated = len(stream.decompress(self.stored(info.byte_offset, info.size, where), size + 5))
                except zlib.error as error:
                    raise ValueError(f"{where} is damaged: {error}.") from None
                if inflated <= size and not stream.eof:
                    raise ValueError(f"{where} is damaged: a chunk ends early.")
            if inflated not in (size, size + 4 * (FLETCHER32 in filters)):  # with its checksum, or the checksum behind
                raise ValueError(
                    f"{where} declares chunks of {size:,} bytes, but one has {'fewer' if inflated < size else 'more'}."
                )


def values(h5py: Any, tree: Any) -> Any:
    """The data of a tree that was surveyed: text as str or lists of it, numbers as NumPy has them."""
    if isinstance(tree, dict):
        return {name: values(h5py, found) for name, found in tree.items()}
    if not isinstance(tree, h5py.Dataset):
        return tree
    if not isinstance(tree.id.get_type(), h5py.h5t.TypeStringID):
        return tree[()]
    text = tree.asstr()[()]
    return text if isinstance(text, str) else text.tolist()
