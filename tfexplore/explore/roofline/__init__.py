"""The roofline: how near the fused kernels come to what this machine's memory and arithmetic allow."""
