// What device and host side share: error checks, and the integer functions of size expressions. The same for every
// plugin.
#ifndef PLUGIN_AUTOGEN_BASICS_H
#define PLUGIN_AUTOGEN_BASICS_H

#include <cstddef>
#include <cstdint>
#include <cuda_runtime_api.h>

#define PLUGIN_AUTOGEN_HIDDEN __attribute__((visibility("hidden")))

// Leaves a function that returns cudaError_t at the first call that fails.
#define PLUGIN_AUTOGEN_CHECK(call)                                                                                     \
    do                                                                                                                 \
    {                                                                                                                  \
        cudaError_t const checkedStatus = (call);                                                                      \
        if (checkedStatus != cudaSuccess)                                                                              \
        {                                                                                                              \
            return checkedStatus;                                                                                      \
        }                                                                                                              \
    } while (0)

// An unnamed namespace: two libraries in one process may carry different releases of this file.
namespace
{

// Quotient rounded towards minus infinity. An empty dimension may end up as a divisor: that gives 0, never a trap.
inline int64_t floorDiv(int64_t a, int64_t b)
{
    if (b == 0)
    {
        return 0;
    }
    int64_t const quotient = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

inline int64_t floorMod(int64_t a, int64_t b)
{
    return a - floorDiv(a, b) * b;
}

inline int64_t minOf(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

inline int64_t maxOf(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

} // namespace

#endif // PLUGIN_AUTOGEN_BASICS_H
