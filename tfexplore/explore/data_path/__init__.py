"""The bytes of spikes on their way: disk, device, batch, saved for backward; as float32 and as bits."""
