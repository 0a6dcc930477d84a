"""Generated plugins on the CPU: CUDA emulated by headers for g++ (`include/`), and a host that drives them."""
