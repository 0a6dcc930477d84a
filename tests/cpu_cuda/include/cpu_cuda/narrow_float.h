// Rounding to 16-bit floats, always to nearest even and always once: wider results are first rounded to odd, which keeps
// the information whether anything was lost (Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums").
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "math.h"

namespace cpu_cuda {

inline uint16_t halfFromFloat(float value) {
    uint32_t bits = bitCast<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return 0x7fffu;  // CUDA's canonical NaN
    if (bits >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (bits < 0x38800000u) {  // subnormal in half: a multiple of 2^-24
        const uint32_t exponent = bits >> 23;
        if (exponent < 102u) return static_cast<uint16_t>(sign);
        const uint32_t mantissa = (bits & 0x7fffffu) | 0x800000u;
        const uint32_t shift = 126u - exponent;
        uint32_t quotient = mantissa >> shift;
        const uint32_t rest = mantissa & ((1u << shift) - 1u);
        const uint32_t middle = 1u << (shift - 1u);
        quotient += rest > middle || (rest == middle && (quotient & 1u));
        return static_cast<uint16_t>(sign | quotient);
    }
    bits += 0xfffu + ((bits >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((bits - 0x38000000u) >> 13));
}

inline float floatFromHalf(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 0x1fu;
    const uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0x1fu) return bitCast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent != 0) return bitCast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // 2^-24
    return sign ? -magnitude : magnitude;
}

inline uint16_t bfloat16FromFloat(float value) {
    const uint32_t bits = bitCast<uint32_t>(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float floatFromBfloat16(uint16_t bits) { return bitCast<float>(static_cast<uint32_t>(bits) << 16); }

/// double to float, rounded to odd.
inline float floatToOdd(double value) {
    const float nearest = static_cast<float>(value);
    if (value != value || static_cast<double>(nearest) == value) return nearest;
    uint32_t bits = bitCast<uint32_t>(nearest);
    if (std::fabs(static_cast<double>(nearest)) > std::fabs(value)) --bits;
    return bitCast<float>(bits | 1u);
}

/// A 64-bit magnitude to double, rounded to odd.
inline double doubleToOdd(uint64_t magnitude) {
    const int excess = magnitude == 0 ? 0 : 64 - __builtin_clzll(magnitude) - 53;
    if (excess <= 0) return static_cast<double>(magnitude);
    const uint64_t kept = magnitude >> excess;
    const bool lost = (kept << excess) != magnitude;
    return std::ldexp(static_cast<double>(kept | static_cast<uint64_t>(lost)), excess);
}

template <typename I>
inline float floatToOddFromInteger(I value) {
    const bool negative = value < I{0};
    const uint64_t magnitude = negative ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
    const float rounded = floatToOdd(doubleToOdd(magnitude));
    return negative ? -rounded : rounded;
}

/// a * b + c, rounded to odd; exact in the product as long as a and b have at most 26 significant bits.
inline float fmaToOdd(float a, float b, float c) {
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double addend = static_cast<double>(c);
    const double sum = product + addend;
    if (!std::isfinite(sum)) return static_cast<float>(sum);
    const double back = sum - product;
    const double error = (product - (sum - back)) + (addend - back);
    uint64_t bits = bitCast<uint64_t>(sum);
    if (error != 0.0 && (bits & 1u) == 0) bits += std::signbit(error) == std::signbit(sum) ? 1 : -1;
    return floatToOdd(bitCast<double>(bits));
}

}  // namespace cpu_cuda
