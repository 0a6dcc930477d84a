// CUDA's math functions and intrinsics beyond what <math.h> declares globally (CUDA Math API). Float minimum and maximum
// are fmin and fmax as on the device: a NaN loses against a number.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <math.h>

#include "vector_types.h"

#define CPU_CUDA_EXTREMES(RESULT, A, B)                                                                      \
    inline RESULT min(A a, B b) {                                                                            \
        return static_cast<RESULT>(a) < static_cast<RESULT>(b) ? static_cast<RESULT>(a) : static_cast<RESULT>(b); \
    }                                                                                                        \
    inline RESULT max(A a, B b) {                                                                            \
        return static_cast<RESULT>(a) > static_cast<RESULT>(b) ? static_cast<RESULT>(a) : static_cast<RESULT>(b); \
    }
CPU_CUDA_EXTREMES(int, int, int)
CPU_CUDA_EXTREMES(unsigned int, unsigned int, unsigned int)
CPU_CUDA_EXTREMES(unsigned int, int, unsigned int)
CPU_CUDA_EXTREMES(unsigned int, unsigned int, int)
CPU_CUDA_EXTREMES(long int, long int, long int)
CPU_CUDA_EXTREMES(unsigned long int, unsigned long int, unsigned long int)
CPU_CUDA_EXTREMES(unsigned long int, long int, unsigned long int)
CPU_CUDA_EXTREMES(unsigned long int, unsigned long int, long int)
CPU_CUDA_EXTREMES(long long int, long long int, long long int)
CPU_CUDA_EXTREMES(unsigned long long int, unsigned long long int, unsigned long long int)
CPU_CUDA_EXTREMES(unsigned long long int, long long int, unsigned long long int)
CPU_CUDA_EXTREMES(unsigned long long int, unsigned long long int, long long int)
#undef CPU_CUDA_EXTREMES
// Of two zeros the maximum is +0 and the minimum -0, as on the device; fmax of the C library leaves that open.
template <typename T>
inline T cpuCudaFmax(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? (std::signbit(a) ? b : a) : (a > b ? a : b);
}
template <typename T>
inline T cpuCudaFmin(T a, T b) {
    if (a != a) return b;
    if (b != b) return a;
    return a == b ? (std::signbit(a) ? a : b) : (a < b ? a : b);
}
inline float max(float a, float b) { return cpuCudaFmax(a, b); }
inline float min(float a, float b) { return cpuCudaFmin(a, b); }
inline double max(double a, double b) { return cpuCudaFmax(a, b); }
inline double min(double a, double b) { return cpuCudaFmin(a, b); }
inline double max(float a, double b) { return cpuCudaFmax<double>(a, b); }
inline double min(float a, double b) { return cpuCudaFmin<double>(a, b); }
inline double max(double a, float b) { return cpuCudaFmax<double>(a, b); }
inline double min(double a, float b) { return cpuCudaFmin<double>(a, b); }
inline unsigned int umin(unsigned int a, unsigned int b) { return min(a, b); }
inline unsigned int umax(unsigned int a, unsigned int b) { return max(a, b); }
inline long long int llmin(long long int a, long long int b) { return min(a, b); }
inline long long int llmax(long long int a, long long int b) { return max(a, b); }
inline unsigned long long int ullmin(unsigned long long int a, unsigned long long int b) { return min(a, b); }
inline unsigned long long int ullmax(unsigned long long int a, unsigned long long int b) { return max(a, b); }

inline float rsqrtf(float a) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(a))); }
inline float rsqrt(float a) { return rsqrtf(a); }
inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
inline float rcbrtf(float a) { return 1.0f / std::cbrt(a); }
inline double rcbrt(double a) { return 1.0 / std::cbrt(a); }
inline double sinpi(double a) { return std::sin(M_PI * std::fmod(a, 2.0)); }
inline double cospi(double a) { return std::cos(M_PI * std::fmod(a, 2.0)); }
inline float sinpif(float a) { return static_cast<float>(sinpi(static_cast<double>(a))); }
inline float cospif(float a) { return static_cast<float>(cospi(static_cast<double>(a))); }
inline double normcdf(double a) { return 0.5 * std::erfc(-a * M_SQRT1_2); }
inline float normcdff(float a) { return static_cast<float>(normcdf(static_cast<double>(a))); }
inline float fdividef(float a, float b) { return a / b; }
#ifndef __GLIBC__
inline double exp10(double a) { return std::pow(10.0, a); }
inline float exp10f(float a) { return std::pow(10.0f, a); }
#endif

// Fast-math intrinsics: correctly rounded or the library's, which is more exact than the device.
inline float __expf(float a) { return std::exp(a); }
inline float __exp10f(float a) { return ::exp10f(a); }
inline float __logf(float a) { return std::log(a); }
inline float __log2f(float a) { return std::log2(a); }
inline float __log10f(float a) { return std::log10(a); }
inline float __powf(float a, float b) { return std::pow(a, b); }
inline float __sinf(float a) { return std::sin(a); }
inline float __cosf(float a) { return std::cos(a); }
inline float __tanf(float a) { return std::tan(a); }
inline float __tanhf(float a) { return std::tanh(a); }
inline void __sincosf(float a, float* sine, float* cosine) { *sine = std::sin(a), *cosine = std::cos(a); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frsqrt_rn(float a) { return rsqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return std::sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

namespace cpu_cuda {

// cvt.<integer>.<float>: saturates; NaN gives 0 in 32 bits and less, the lowest bit pattern with the top bit in 64 bits.
template <typename I>
inline I saturate(double rounded) {
    if (rounded != rounded) return sizeof(I) == 8 ? static_cast<I>(uint64_t{1} << 63) : I{0};
    // 2^63 and 2^64 are exact in double, the largest 64-bit integers are not.
    const double top = std::ldexp(1.0, std::numeric_limits<I>::digits);
    if (rounded >= top) return std::numeric_limits<I>::max();
    if (rounded <= static_cast<double>(std::numeric_limits<I>::lowest())) return std::numeric_limits<I>::lowest();
    return static_cast<I>(rounded);
}

inline double roundEven(double a) {
    const double down = std::floor(a);
    const double rest = a - down;
    if (rest != 0.5) return rest < 0.5 ? down : down + 1.0;
    return std::fmod(down, 2.0) == 0.0 ? down : down + 1.0;
}

template <typename To, typename From>
inline To bitCast(From from) {
    static_assert(sizeof(To) == sizeof(From), "bitCast keeps the size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

}  // namespace cpu_cuda

#define CPU_CUDA_TO_INTEGER(PREFIX, FROM, NAME, I)                                                    \
    inline I __##PREFIX##2##NAME##_rn(FROM a) { return cpu_cuda::saturate<I>(cpu_cuda::roundEven(a)); } \
    inline I __##PREFIX##2##NAME##_rz(FROM a) { return cpu_cuda::saturate<I>(std::trunc(double(a))); } \
    inline I __##PREFIX##2##NAME##_rd(FROM a) { return cpu_cuda::saturate<I>(std::floor(double(a))); } \
    inline I __##PREFIX##2##NAME##_ru(FROM a) { return cpu_cuda::saturate<I>(std::ceil(double(a))); }
CPU_CUDA_TO_INTEGER(float, float, int, int)
CPU_CUDA_TO_INTEGER(float, float, uint, unsigned int)
CPU_CUDA_TO_INTEGER(float, float, ll, long long int)
CPU_CUDA_TO_INTEGER(float, float, ull, unsigned long long int)
CPU_CUDA_TO_INTEGER(double, double, int, int)
CPU_CUDA_TO_INTEGER(double, double, uint, unsigned int)
CPU_CUDA_TO_INTEGER(double, double, ll, long long int)
CPU_CUDA_TO_INTEGER(double, double, ull, unsigned long long int)
#undef CPU_CUDA_TO_INTEGER
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned int a) { return static_cast<float>(a); }
inline float __ll2float_rn(long long int a) { return static_cast<float>(a); }
inline float __ull2float_rn(unsigned long long int a) { return static_cast<float>(a); }
inline double __int2double_rn(int a) { return a; }
inline double __uint2double_rn(unsigned int a) { return a; }
inline double __ll2double_rn(long long int a) { return static_cast<double>(a); }
inline double __ull2double_rn(unsigned long long int a) { return static_cast<double>(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }

inline int __float_as_int(float a) { return cpu_cuda::bitCast<int>(a); }
inline unsigned int __float_as_uint(float a) { return cpu_cuda::bitCast<unsigned int>(a); }
inline float __int_as_float(int a) { return cpu_cuda::bitCast<float>(a); }
inline float __uint_as_float(unsigned int a) { return cpu_cuda::bitCast<float>(a); }
inline long long int __double_as_longlong(double a) { return cpu_cuda::bitCast<long long int>(a); }
inline double __longlong_as_double(long long int a) { return cpu_cuda::bitCast<double>(a); }
inline int __double2hiint(double a) { return static_cast<int>(__double_as_longlong(a) >> 32); }
inline int __double2loint(double a) { return static_cast<int>(__double_as_longlong(a)); }
inline double __hiloint2double(int high, int low) {
    return __longlong_as_double(static_cast<long long int>((static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32) |
                                                           static_cast<uint32_t>(low)));
}

inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz(static_cast<unsigned int>(a)); }
inline int __clzll(long long int a) { return a == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long int>(a)); }
inline int __popc(unsigned int a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long int a) { return __builtin_popcountll(a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long int a) { return __builtin_ffsll(a); }
inline unsigned int __brev(unsigned int a) {
    unsigned int reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= ((a >> bit) & 1u) << (31 - bit);
    return reversed;
}
inline unsigned long long int __brevll(unsigned long long int a) {
    return (static_cast<unsigned long long int>(__brev(static_cast<unsigned int>(a))) << 32) |
           __brev(static_cast<unsigned int>(a >> 32));
}
inline unsigned int __byte_perm(unsigned int a, unsigned int b, unsigned int selector) {
    const uint64_t bytes = (static_cast<uint64_t>(b) << 32) | a;
    unsigned int result = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned int pick = (selector >> (4 * i)) & 0xfu;
        unsigned int byte = static_cast<unsigned int>(bytes >> (8 * (pick & 7u))) & 0xffu;
        if (pick & 8u) byte = byte & 0x80u ? 0xffu : 0u;  // the selector's top bit replicates the sign
        result |= byte << (8 * i);
    }
    return result;
}
inline int __mulhi(int a, int b) { return static_cast<int>((static_cast<int64_t>(a) * b) >> 32); }
inline unsigned int __umulhi(unsigned int a, unsigned int b) {
    return static_cast<unsigned int>((static_cast<uint64_t>(a) * b) >> 32);
}
inline long long int __mul64hi(long long int a, long long int b) {
    return static_cast<long long int>((static_cast<__int128>(a) * b) >> 64);
}
inline unsigned long long int __umul64hi(unsigned long long int a, unsigned long long int b) {
    return static_cast<unsigned long long int>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline int __mul24(int a, int b) {
    return static_cast<int>(static_cast<int64_t>(static_cast<int>(static_cast<unsigned int>(a) << 8) >> 8) *
                            (static_cast<int>(static_cast<unsigned int>(b) << 8) >> 8));
}
inline unsigned int __umul24(unsigned int a, unsigned int b) { return (a & 0xffffffu) * (b & 0xffffffu); }
inline unsigned int __sad(int a, int b, unsigned int c) {
    return static_cast<unsigned int>(a > b ? int64_t{a} - b : int64_t{b} - a) + c;
}
inline unsigned int __usad(unsigned int a, unsigned int b, unsigned int c) { return (a > b ? a - b : b - a) + c; }
inline int __hadd(int a, int b) { return static_cast<int>((int64_t{a} + b) >> 1); }
inline int __rhadd(int a, int b) { return static_cast<int>((int64_t{a} + b + 1) >> 1); }
inline unsigned int __uhadd(unsigned int a, unsigned int b) { return static_cast<unsigned int>((uint64_t{a} + b) >> 1); }
inline unsigned int __urhadd(unsigned int a, unsigned int b) {
    return static_cast<unsigned int>((uint64_t{a} + b + 1) >> 1);
}
inline unsigned int __funnelshift_l(unsigned int low, unsigned int high, unsigned int shift) {
    return static_cast<unsigned int>((((static_cast<uint64_t>(high) << 32) | low) << (shift & 31u)) >> 32);
}
inline unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int shift) {
    return static_cast<unsigned int>(((static_cast<uint64_t>(high) << 32) | low) >> (shift & 31u));
}
inline unsigned int __funnelshift_lc(unsigned int low, unsigned int high, unsigned int shift) {
    return shift >= 32u ? low : __funnelshift_l(low, high, shift);
}
inline unsigned int __funnelshift_rc(unsigned int low, unsigned int high, unsigned int shift) {
    return shift >= 32u ? high : __funnelshift_r(low, high, shift);
}

namespace cpu_cuda {

template <typename A, typename B, typename C>
inline C dot4(uint32_t a, uint32_t b, C c) {
    uint32_t sum = static_cast<uint32_t>(c);  // wraps around, as the instruction does
    for (int i = 0; i < 4; ++i) {
        sum += static_cast<uint32_t>(static_cast<int32_t>(static_cast<A>(a >> (8 * i))) *
                                     static_cast<int32_t>(static_cast<B>(b >> (8 * i))));
    }
    return static_cast<C>(sum);
}

}  // namespace cpu_cuda

inline int __dp4a(int a, int b, int c) {
    return cpu_cuda::dot4<int8_t, int8_t>(static_cast<uint32_t>(a), static_cast<uint32_t>(b), c);
}
inline unsigned int __dp4a(unsigned int a, unsigned int b, unsigned int c) {
    return cpu_cuda::dot4<uint8_t, uint8_t>(a, b, c);
}
// The two mixed forms are TVM's own (its preamble for int8 writes them in PTX).
inline int __dp4a(unsigned int a, int b, int c) {
    return cpu_cuda::dot4<uint8_t, int8_t>(a, static_cast<uint32_t>(b), c);
}
inline int __dp4a(int a, unsigned int b, int c) {
    return cpu_cuda::dot4<int8_t, uint8_t>(static_cast<uint32_t>(a), b, c);
}
inline int __dp4a(char4 a, char4 b, int c) {
    return __dp4a(cpu_cuda::bitCast<int>(a), cpu_cuda::bitCast<int>(b), c);
}
inline unsigned int __dp4a(uchar4 a, uchar4 b, unsigned int c) {
    return __dp4a(cpu_cuda::bitCast<unsigned int>(a), cpu_cuda::bitCast<unsigned int>(b), c);
}
