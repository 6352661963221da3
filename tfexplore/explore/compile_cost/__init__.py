"""What compiling a kernel costs, and when it is paid."""
