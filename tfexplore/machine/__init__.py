"""What this computer has: files and caches, its CUDA set-up, `doctor`, wheels for a room without network."""
