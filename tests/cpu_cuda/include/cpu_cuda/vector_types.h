// CUDA's built-in vector types with CUDA's sizes and alignments (CUDA C++ Programming Guide, "Built-in Vector Types").
#pragma once

#define CPU_CUDA_VECTORS(T, NAME, ALIGN1, ALIGN2, ALIGN4)                                                        \
    struct alignas(ALIGN1) NAME##1 {                                                                             \
        T x;                                                                                                     \
    };                                                                                                           \
    struct alignas(ALIGN2) NAME##2 {                                                                             \
        T x, y;                                                                                                  \
    };                                                                                                           \
    struct NAME##3 {                                                                                             \
        T x, y, z;                                                                                               \
    };                                                                                                           \
    struct alignas(ALIGN4) NAME##4 {                                                                             \
        T x, y, z, w;                                                                                            \
    };                                                                                                           \
    inline NAME##1 make_##NAME##1(T x) { return NAME##1{x}; }                                                    \
    inline NAME##2 make_##NAME##2(T x, T y) { return NAME##2{x, y}; }                                            \
    inline NAME##3 make_##NAME##3(T x, T y, T z) { return NAME##3{x, y, z}; }                                    \
    inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return NAME##4{x, y, z, w}; }

CPU_CUDA_VECTORS(signed char, char, 1, 2, 4)
CPU_CUDA_VECTORS(unsigned char, uchar, 1, 2, 4)
CPU_CUDA_VECTORS(short, short, 2, 4, 8)
CPU_CUDA_VECTORS(unsigned short, ushort, 2, 4, 8)
CPU_CUDA_VECTORS(int, int, 4, 8, 16)
CPU_CUDA_VECTORS(unsigned int, uint, 4, 8, 16)
CPU_CUDA_VECTORS(long int, long, 8, 16, 16)
CPU_CUDA_VECTORS(unsigned long int, ulong, 8, 16, 16)
CPU_CUDA_VECTORS(long long int, longlong, 8, 16, 16)
CPU_CUDA_VECTORS(unsigned long long int, ulonglong, 8, 16, 16)
CPU_CUDA_VECTORS(float, float, 4, 8, 16)
CPU_CUDA_VECTORS(double, double, 8, 16, 16)
#undef CPU_CUDA_VECTORS

struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
};
