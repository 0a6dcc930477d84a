// CUDA's cuda_fp16.h for the emulated device.
#pragma once

#include "cpu_cuda/narrow_float.h"
#include "cuda_runtime.h"

#define T __half
#define T2 __half2
#define RAW __half_raw
#define RAW2 __half2_raw
#define OTHER struct __nv_bfloat16
#define FROM_FLOAT cpu_cuda::halfFromFloat
#define TO_FLOAT cpu_cuda::floatFromHalf
#define WORD half
#define PAIR half2
struct __nv_bfloat16;
#include "cpu_cuda/narrow_float.inc"
#undef T
#undef T2
#undef RAW
#undef RAW2
#undef OTHER
#undef FROM_FLOAT
#undef TO_FLOAT
#undef WORD
#undef PAIR

typedef __half half;
typedef __half2 half2;
typedef __half nv_half;
typedef __half2 nv_half2;

inline __half2 make_half2(const __half x, const __half y) { return __half2(x, y); }
inline __half2 __half2half2(const __half a) { return __half2(a, a); }
inline __half2 __halves2half2(const __half a, const __half b) { return __half2(a, b); }
inline __half2 __lows2half2(const __half2 a, const __half2 b) { return __half2(a.x, b.x); }
inline __half2 __highs2half2(const __half2 a, const __half2 b) { return __half2(a.y, b.y); }
inline float2 __half22float2(const __half2 a) { return float2{cpu_cuda::wide(a.x), cpu_cuda::wide(a.y)}; }

// TVM's preamble defines these only where __CUDA_ARCH__ is (in nvcc's device pass); rounded through float like there.
inline __half hpow(__half a, __half b) { return __half(std::pow(cpu_cuda::wide(a), cpu_cuda::wide(b))); }
inline __half htan(__half a) { return __half(std::tan(cpu_cuda::wide(a))); }
inline __half hatan(__half a) { return __half(std::atan(cpu_cuda::wide(a))); }
inline __half herf(__half a) { return __half(std::erf(cpu_cuda::wide(a))); }
