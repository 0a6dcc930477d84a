// CUDA's cuda_bf16.h for the emulated device.
#pragma once

#include "cuda_fp16.h"

#define T __nv_bfloat16
#define T2 __nv_bfloat162
#define RAW __nv_bfloat16_raw
#define RAW2 __nv_bfloat162_raw
#define OTHER __half
#define FROM_FLOAT cpu_cuda::bfloat16FromFloat
#define TO_FLOAT cpu_cuda::floatFromBfloat16
#define WORD bfloat16
#define PAIR bfloat162
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

typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

inline __half::__half(__nv_bfloat16 value) : __half(static_cast<float>(value)) {}
inline __nv_bfloat16::__nv_bfloat16(__half value) : __nv_bfloat16(static_cast<float>(value)) {}

inline __nv_bfloat162 make_bfloat162(const __nv_bfloat16 x, const __nv_bfloat16 y) { return __nv_bfloat162(x, y); }
inline __nv_bfloat162 __bfloat162bfloat162(const __nv_bfloat16 a) { return __nv_bfloat162(a, a); }
inline __nv_bfloat162 __halves2bfloat162(const __nv_bfloat16 a, const __nv_bfloat16 b) { return __nv_bfloat162(a, b); }
inline __nv_bfloat162 __lows2bfloat162(const __nv_bfloat162 a, const __nv_bfloat162 b) {
    return __nv_bfloat162(a.x, b.x);
}
inline __nv_bfloat162 __highs2bfloat162(const __nv_bfloat162 a, const __nv_bfloat162 b) {
    return __nv_bfloat162(a.y, b.y);
}
inline float2 __bfloat1622float2(const __nv_bfloat162 a) { return float2{cpu_cuda::wide(a.x), cpu_cuda::wide(a.y)}; }
