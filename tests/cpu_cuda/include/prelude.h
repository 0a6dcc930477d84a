// Precompiled: what nvcc declares by itself, and the standard headers that generated sources include.
#include "cuda_runtime.h"

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#ifndef CPU_CUDA_KERNEL_SOURCE
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#endif
