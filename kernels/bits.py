"""Values of a few bits each, packed into words and unpacked, along any axis: one read, one write.

A word has PER values of its column; the first lies in the highest bits where `big`, else in the lowest, and where the column ends
within a word the rest is 0. `wrong`, for each part: whether it met what is no whole number from 0 to 2^bits - 1; with `nonzero`,
any value but 0 is a 1, and only NaN is wrong. Both of these are 0 or 1.

Shapes: x, out [outer * length, inner], words [outer * COUNT, inner], COUNT = ceil(length / PER), wrong [parts], unit [1].
"""

import numpy as np
from numba import njit
from tfexplore.backends.streaming import cut, fence, write

ZERO, ONE, EIGHT, PIECE = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(1024)
# A product with EACH copies a byte to eight, of which FIRST_HIGH or FIRST_LOW then leaves each another bit. The other way, the
# product of eight bytes of 0 or 1 with one of the two has these bits side by side in its highest byte.
FIRST_HIGH, FIRST_LOW = np.uint64(0x0102040810204080), np.uint64(0x8040201008040201)
EACH, ALMOST, SEVEN, TOP = np.uint64(0x0101010101010101), np.uint64(0x7F7F7F7F7F7F7F7F), np.uint64(7), np.uint64(56)


@njit
def code_of(v, most):
    """The value as an unsigned number; another one than v where v is none from 0 to `most`."""
    if most == 1:
        return np.uint8(v != 0)
    return np.uint8(v if 0 <= v <= most else 0)


@njit
def shift_of(j, per, bits, big):
    """The lowest bit of value j in its word."""
    return np.uint32((per - ONE - j if big else j) * bits)


@njit
def gathered(codes, eights, per, bits, big, words):
    """Neighbours -> words of `per` of them each. codes: the values as bytes; eights: the same memory, as numbers of 8 bytes."""
    if bits == ONE and per == EIGHT:
        for i in range(words.size):
            words[i] = eights[i] * (FIRST_LOW if big else FIRST_HIGH) >> TOP
    elif bits == ONE:
        for i in range(words.size):
            word = np.uint32(0)
            for j in range(ZERO, per, EIGHT):
                eight = np.uint32(eights[(i * per + j) // EIGHT] * (FIRST_LOW if big else FIRST_HIGH) >> TOP)
                word |= eight << np.uint32(per - EIGHT - j if big else j)
            words[i] = word
    else:
        for i in range(words.size):
            word = np.uint32(0)
            for j in range(per):
                word |= np.uint32(codes[i * per + j]) << shift_of(j, per, bits, big)
            words[i] = word


@njit
def apart(eight, big):
    """The bits of a byte as eight bytes of 0 or 1."""
    return (eight * EACH & (FIRST_HIGH if big else FIRST_LOW)) + ALMOST >> SEVEN & EACH


@njit
def scattered(words, per, bits, big, codes, eights):
    """The reverse."""
    if bits == ONE and per == EIGHT:
        for i in range(words.size):
            eights[i] = apart(np.uint64(words[i]), big)
    elif bits == ONE:
        for i in range(words.size):
            for j in range(ZERO, per, EIGHT):
                eight = np.uint64(words[i]) >> (per - EIGHT - j if big else j) & np.uint64(255)
                eights[(i * per + j) // EIGHT] = apart(eight, big)
    else:
        for i in range(words.size):
            for j in range(per):
                codes[i * per + j] = np.uint32(words[i]) >> shift_of(j, per, bits, big) & np.uint32((ONE << bits) - ONE)


@njit(cache=True, nogil=True, error_model="numpy")
def pack(first, last, per, stream, part, x, length, bits, big, nonzero, words, wrong):
    """The words first <= w < last, counted along memory."""
    per, inner, most = np.uint64(per), np.uint64(x.shape[1]), np.uint8((ONE << bits) - ONE)
    count, missed, w = (length + per - ONE) // per, False, first
    filled, codes = np.empty(PIECE, np.uint32), np.empty(PIECE, np.uint8)
    eights = codes.view(np.uint64)
    while w < last:
        row, column = w // inner, w % inner
        line, k = row // count, row % count  # word k of a line of them
        begin, held = line * length + k * per, min(per, length - k * per)
        if inner == ONE and held == per:  # the values of a word are neighbours, and so are words
            end = min(last, w + min(PIECE // per, length // per - k))
            x_w = cut(x, begin, ZERO, (end - w) * per)
            for i in range(x_w.size):
                code = code_of(x_w[i], most)
                missed |= (x_w[i] != x_w[i]) if nonzero else (code != x_w[i])
                codes[i] = code
            gathered(codes, eights, per, bits, big, cut(words, row, ZERO, end - w))
        else:
            end = min(last, w + min(PIECE, inner - column))
            words_w = cut(words, row, column, column + end - w)
            filled[:] = 0
            for j in range(held):
                x_j, shift = cut(x, begin + j, column, column + end - w), shift_of(j, per, bits, big)
                for i in range(x_j.size):
                    code = code_of(x_j[i], most)
                    missed |= (x_j[i] != x_j[i]) if nonzero else (code != x_j[i])
                    filled[i] |= np.uint32(code) << shift
            for i in range(words_w.size):
                words_w[i] = filled[i]
        w = end
    wrong[part] = missed


@njit(cache=True, nogil=True, error_model="numpy")
def unpack(first, last, per, stream, part, words, length, bits, big, unit, out):
    """The values of the words first <= w < last, each times unit[0]; `stream`: they are larger than the cache."""
    per, inner, most = np.uint64(per), np.uint64(words.shape[1]), np.uint32((ONE << bits) - ONE)
    count, w = (length + per - ONE) // per, first
    one, filled, codes = unit[0], np.empty(PIECE, out.dtype), np.empty(PIECE, np.uint8)
    eights = codes.view(np.uint64)
    while w < last:
        row, column = w // inner, w % inner
        line, k = row // count, row % count
        begin, held = line * length + k * per, min(per, length - k * per)
        if inner == ONE and held == per:
            end = min(last, w + min(PIECE // per, length // per - k))
            scattered(cut(words, row, ZERO, end - w), per, bits, big, codes, eights)
            for i in range((end - w) * per):
                filled[i] = one * codes[i]
            write(filled, cut(out, begin, ZERO, (end - w) * per), stream)
        else:
            end = min(last, w + min(PIECE, inner - column))
            words_w = cut(words, row, column, column + end - w)
            for j in range(held):
                shift = shift_of(j, per, bits, big)
                for i in range(words_w.size):
                    filled[i] = one * (np.uint32(words_w[i]) >> shift & most)
                write(filled, cut(out, begin + j, column, column + end - w), stream)
        w = end
    fence()
