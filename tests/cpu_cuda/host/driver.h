// What the Python side asks for and gets back, and what the drivers of both plugin interfaces share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace driver {

struct Tensor {
    int32_t type;  // TensorRT's DataType
    std::vector<int64_t> dims, min, opt, max;
    std::vector<unsigned char> data;  // inputs only
    size_t bytes;                     // of `dims`
    std::vector<bool> decided;        // axes of an output that the data decide; none: empty
    bool isDynamic(size_t axis) const { return min[axis] != max[axis]; }
    bool isDecided(size_t axis) const { return axis < decided.size() && decided[axis]; }
};

struct Request {
    std::string plugin;
    std::string fingerprint;  // of the ONNX node; empty: none given
    std::vector<Tensor> inputs, outputs;
    std::vector<std::vector<int64_t>> shapes;  // values of the shape tensors
    std::vector<uint64_t> seeds;  // one enqueue each
    int64_t contexts;             // each on a thread of its own
    int64_t sharedLimit;          // bytes of shared memory that a block may have
};

struct Response {
    int64_t workspace = 0;
    int64_t launches = 0;                                      // of the first enqueue
    std::vector<std::vector<std::vector<unsigned char>>> runs;  // run, output
};

// The plugin, or its use of CUDA, is wrong: one line on stderr and the process ends with kFailure.
constexpr int kFailure = 85;
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
#define REQUIRE(condition, ...) \
    do {                        \
        if (!(condition)) ::driver::fail(__VA_ARGS__); \
    } while (0)

// Device memory of one execution: inputs, outputs and workspace, poisoned.
class Buffers {
public:
    // `outputs`: the request's, with the room that the plugin's own shapes ask for.
    Buffers(const Request& request, const std::vector<Tensor>& outputs, size_t workspaceBytes, uint64_t seed);
    ~Buffers();
    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;

    std::vector<const void*> inputs;
    std::vector<void*> outputs;
    void* workspace;
    // The outputs' contents; also checks that the inputs are what they were.
    std::vector<std::vector<unsigned char>> collect() const;

private:
    const Request& mRequest;
    const std::vector<Tensor>& mOutputs;
};

// Runs `enqueue` in the state in which a graph may be captured: nothing may allocate or wait.
template <typename F>
void guarded(F enqueue) {
    cpu_cuda::forbidSynchronization = true;
    const int32_t status = enqueue();
    cpu_cuda::forbidSynchronization = false;
    REQUIRE(status == 0, "enqueue returned %d", status);
    REQUIRE(cudaPeekAtLastError() == cudaSuccess, "enqueue left a CUDA error behind: %s",
            cudaGetErrorName(cudaPeekAtLastError()));
    cpu_cuda::checkGuards();
}

// What a size is at the actual shapes and at the least, optimal and greatest ones of the profile.
struct Sizes {
    int64_t actual, min, opt, max;
};

// Defined by plugin_v2.cpp or plugin_v3.cpp.
void drive(void* library, const Request& request, Response& response);

}  // namespace driver
