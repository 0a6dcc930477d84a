// CUDA's warp matrix functions (nvcuda::wmma) for half, bfloat16 and 8-bit integers. Which lane holds which element is
// unspecified on a device; here element i of a matrix lies in lane i % 32. Sums are float or int, in the order of k.
#pragma once

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"

extern "C" {
// The present warp's table of one pointer for each lane.
void** cpuCudaWarpTable();
[[noreturn]] void cpuCudaMisuse(const char* message);
}

namespace nvcuda {
namespace wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

namespace detail {

template <typename Use, int M, int N, int K>
struct Shape;
template <int M, int N, int K>
struct Shape<matrix_a, M, N, K> {
    static constexpr int rows = M, columns = K;
};
template <int M, int N, int K>
struct Shape<matrix_b, M, N, K> {
    static constexpr int rows = K, columns = N;
};
template <int M, int N, int K>
struct Shape<accumulator, M, N, K> {
    static constexpr int rows = M, columns = N;
};

inline unsigned int lane() {
    return ((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x) % 32u;
}

template <typename T>
struct Sum {
    using type = float;
};
template <>
struct Sum<int> {
    using type = int;
};

}  // namespace detail

template <typename Use, int M, int N, int K, typename T, typename Layout = void>
class fragment {
    static_assert((M == 16 && N == 16 && K == 16) || (M == 32 && N == 8 && K == 16) || (M == 8 && N == 32 && K == 16),
                  "a shape that wmma has for these types");

public:
    using Shape = detail::Shape<Use, M, N, K>;
    using element_type = T;
    using storage_element_type = T;
    static constexpr int num_elements = Shape::rows * Shape::columns / 32;
    T x[num_elements];
};

template <typename Use, int M, int N, int K, typename T, typename Layout>
inline void fill_fragment(fragment<Use, M, N, K, T, Layout>& to, const T& value) {
    for (int i = 0; i < to.num_elements; ++i) to.x[i] = value;
}
template <typename Use, int M, int N, int K, typename T, typename Layout, typename V>
inline void fill_fragment(fragment<Use, M, N, K, T, Layout>& to, const V& value) {
    for (int i = 0; i < to.num_elements; ++i) to.x[i] = T(value);
}

namespace detail {

template <typename T>
void checkStride(unsigned int ldm) {
    if (ldm * sizeof(T) % 16u != 0) cpuCudaMisuse("wmma: the leading dimension is no multiple of 16 bytes");
}

template <typename Fragment, typename T, typename F>
void visit(Fragment& fragment, T* memory, unsigned int ldm, bool rowMajor, F move, int line) {
    checkStride<T>(ldm);
    // All lanes of the warp take part.
    __syncwarp(0xffffffffu, line);
    for (int i = 0; i < Fragment::num_elements; ++i) {
        const int element = i * 32 + static_cast<int>(lane());
        const int row = element / Fragment::Shape::columns, column = element % Fragment::Shape::columns;
        move(fragment.x[i], memory[rowMajor ? row * ldm + column : column * ldm + row]);
    }
}

}  // namespace detail

template <typename Use, int M, int N, int K, typename T, typename Layout, typename M_>
inline void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& to, const M_* memory, unsigned int ldm,
                             int line = __builtin_LINE()) {
    detail::visit(to, memory, ldm, std::is_same<Layout, row_major>::value,
                  [](T& element, const M_& place) { element = place; }, line);
}
template <int M, int N, int K, typename T>
inline void load_matrix_sync(fragment<accumulator, M, N, K, T>& to, const T* memory, unsigned int ldm, layout_t layout,
                             int line = __builtin_LINE()) {
    detail::visit(to, memory, ldm, layout == mem_row_major, [](T& element, const T& place) { element = place; }, line);
}
template <int M, int N, int K, typename T>
inline void store_matrix_sync(T* memory, const fragment<accumulator, M, N, K, T>& from, unsigned int ldm, layout_t layout,
                              int line = __builtin_LINE()) {
    detail::visit(from, memory, ldm, layout == mem_row_major, [](const T& element, T& place) { place = element; }, line);
}

// d = a * b + c. Every lane reads the others' fragments, on the others' stacks: not for the checks of single accesses.
template <int M, int N, int K, typename A, typename B, typename D, typename C, typename LayoutA, typename LayoutB>
__attribute__((no_sanitize("thread"), no_sanitize("address"))) inline void mma_sync(
    fragment<accumulator, M, N, K, D>& d, const fragment<matrix_a, M, N, K, A, LayoutA>& a,
    const fragment<matrix_b, M, N, K, B, LayoutB>& b, const fragment<accumulator, M, N, K, C>& c, bool satf = false,
    int line = __builtin_LINE()) {
    (void)satf;
    using FragmentA = fragment<matrix_a, M, N, K, A, LayoutA>;
    using FragmentB = fragment<matrix_b, M, N, K, B, LayoutB>;
    using S = typename detail::Sum<C>::type;
    const void* mine[2] = {&a, &b};
    void** const table = cpuCudaWarpTable();
    table[detail::lane()] = mine;
    __syncwarp(0xffffffffu, line);
    D result[fragment<accumulator, M, N, K, D>::num_elements];
    for (int i = 0; i < d.num_elements; ++i) {
        const int element = i * 32 + static_cast<int>(detail::lane());
        const int row = element / N, column = element % N;
        S sum = static_cast<S>(c.x[i]);
        for (int k = 0; k < K; ++k) {
            const int atA = row * K + k, atB = k * N + column;
            const auto* const otherA = static_cast<const FragmentA*>(static_cast<const void**>(table[atA % 32])[0]);
            const auto* const otherB = static_cast<const FragmentB*>(static_cast<const void**>(table[atB % 32])[1]);
            A left;  // copied here: conversions are functions of their own, which are checked
            B right;
            __builtin_memcpy(&left, &otherA->x[atA / 32], sizeof left);
            __builtin_memcpy(&right, &otherB->x[atB / 32], sizeof right);
            sum += static_cast<S>(left) * static_cast<S>(right);
        }
        result[i] = D(sum);
    }
    __syncwarp(0xffffffffu, line);
    for (int i = 0; i < d.num_elements; ++i) d.x[i] = result[i];
}

}  // namespace wmma
}  // namespace nvcuda
