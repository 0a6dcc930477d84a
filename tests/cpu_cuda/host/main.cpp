// The host process. Whatever goes wrong ends it with a line on standard error.
//
//   plugin_host LIBRARY                 reads a number of requests from standard input, drives the plugin for each, and
//                                       writes the responses to standard output
//   plugin_host LIBRARY --call NAME     calls the library's `int NAME()`, whose result is the exit status
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "execution.h"
#include "driver.h"
#include "symbols.h"

namespace driver {

void fail(const char* format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputc('\n', stderr);
    std::fflush(stderr);
    _exit(kFailure);
}

namespace {

void readExactly(void* data, size_t size) {
    REQUIRE(std::fread(data, 1, size, stdin) == size, "the request ends too early");
}

int64_t readNumber() {
    int64_t value = 0;
    readExactly(&value, sizeof value);
    return value;
}

std::vector<unsigned char> readBytes() {
    std::vector<unsigned char> bytes(static_cast<size_t>(readNumber()));
    readExactly(bytes.data(), bytes.size());
    return bytes;
}

std::string readText() {
    const auto bytes = readBytes();
    return std::string(bytes.begin(), bytes.end());
}

std::vector<int64_t> readNumbers() {
    std::vector<int64_t> numbers(static_cast<size_t>(readNumber()));
    for (int64_t& number : numbers) number = readNumber();
    return numbers;
}

std::vector<Tensor> readTensors(bool withData) {
    std::vector<Tensor> tensors(static_cast<size_t>(readNumber()));
    for (Tensor& tensor : tensors) {
        tensor.type = static_cast<int32_t>(readNumber());
        tensor.dims = readNumbers();
        tensor.min = readNumbers();
        tensor.opt = readNumbers();
        tensor.max = readNumbers();
        tensor.bytes = static_cast<size_t>(readNumber());
        if (withData) tensor.data = readBytes();
    }
    return tensors;
}

Request readRequest() {
    Request request;
    request.plugin = readText();
    request.fingerprint = readText();
    for (const int64_t seed : readNumbers()) request.seeds.push_back(static_cast<uint64_t>(seed));
    request.contexts = readNumber();
    request.sharedLimit = readNumber();
    REQUIRE(request.sharedLimit >= 0 && static_cast<size_t>(request.sharedLimit) <= cpu_cuda::kGreatestShared,
            "no device has blocks with %lld bytes of shared memory", static_cast<long long>(request.sharedLimit));
    cpu_cuda::maxOptinShared = static_cast<size_t>(request.sharedLimit);
    request.inputs = readTensors(true);
    request.shapes.resize(static_cast<size_t>(readNumber()));
    for (auto& values : request.shapes) values = readNumbers();
    request.outputs = readTensors(false);
    return request;
}

int responseDescriptor = -1;

void writeExactly(const void* data, size_t size) {
    const char* at = static_cast<const char*>(data);
    while (size > 0) {
        const ssize_t written = write(responseDescriptor, at, size);
        if (written < 0 && errno == EINTR) continue;
        REQUIRE(written > 0, "cannot write the response");
        at += written;
        size -= static_cast<size_t>(written);
    }
}

void writeNumber(int64_t value) { writeExactly(&value, sizeof value); }

void writeResponse(const Response& response) {
    writeNumber(response.workspace);
    writeNumber(response.launches);
    writeNumber(static_cast<int64_t>(response.runs.size()));
    for (const auto& run : response.runs) {
        for (const auto& output : run) {
            writeNumber(static_cast<int64_t>(output.size()));
            writeExactly(output.data(), output.size());
        }
    }
}

void onSignal(int signal, siginfo_t* info, void*) {
    const char* const what = signal == SIGFPE ? "division by zero" : signal == SIGILL ? "illegal instruction" : "out-of-bounds access";
    cpu_cuda::fault("%s: %s (%s), %s", cpu_cuda::whereAmI().c_str(), what, strsignal(signal),
                    cpu_cuda::describeAddress(info->si_addr).c_str());
}

void catchSignals() {
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
        struct sigaction action{};
        action.sa_sigaction = &onSignal;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigaction(signal, &action, nullptr);
    }
}

void* load(const char* path) {
    void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    REQUIRE(library != nullptr, "cannot load the library: %s", dlerror());
    std::string error;
    REQUIRE(cpu_cuda::readSymbols(library, error), "%s", error.c_str());
    return library;
}

std::vector<unsigned char> downloaded(const void* buffer, size_t size) {
    std::vector<unsigned char> content(size);
    cpu_cuda::fromDevice(content.data(), buffer, size);
    return content;
}

}  // namespace

Buffers::Buffers(const Request& request, const std::vector<Tensor>& outputTensors, size_t workspaceBytes, uint64_t seed)
    : workspace(nullptr), mRequest(request), mOutputs(outputTensors) {
    // Another poison in each run: what an enqueue leaves unwritten differs between two runs.
    static const int kPoison[] = {0xcd, 0xff, 0x7f, 0x81};
    const int poison = kPoison[seed % 4];
    for (const Tensor& tensor : request.inputs) {
        void* const buffer = cpu_cuda::allocateDevice(tensor.data.size(), "an input");
        REQUIRE(buffer != nullptr, "no memory for an input");
        cpu_cuda::toDevice(buffer, tensor.data.data(), tensor.data.size());
        inputs.push_back(buffer);
    }
    for (const Tensor& tensor : mOutputs) {
        void* const buffer = cpu_cuda::allocateDevice(tensor.bytes, "an output");
        REQUIRE(buffer != nullptr, "no memory for an output");
        cpu_cuda::fillDevice(buffer, poison, tensor.bytes);
        outputs.push_back(buffer);
    }
    if (workspaceBytes > 0) {
        workspace = cpu_cuda::allocateDevice(workspaceBytes, "the workspace");
        REQUIRE(workspace != nullptr, "no memory for the workspace");
        cpu_cuda::fillDevice(workspace, poison, workspaceBytes);
    }
}

Buffers::~Buffers() {
    for (const void* buffer : inputs) cpu_cuda::freeDevice(const_cast<void*>(buffer));
    for (void* buffer : outputs) cpu_cuda::freeDevice(buffer);
    if (workspace != nullptr) cpu_cuda::freeDevice(workspace);
}

std::vector<std::vector<unsigned char>> Buffers::collect() const {
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess, "a kernel failed: %s", cudaGetErrorName(cudaGetLastError()));
    std::vector<std::vector<unsigned char>> contents;
    for (size_t i = 0; i < inputs.size(); ++i) {
        const std::vector<unsigned char>& before = mRequest.inputs[i].data;
        REQUIRE(downloaded(inputs[i], before.size()) == before, "enqueue changed input %zu", i);
    }
    for (size_t i = 0; i < outputs.size(); ++i) contents.push_back(downloaded(outputs[i], mOutputs[i].bytes));
    return contents;
}

}  // namespace driver

int main(int argc, char** argv) {
    using namespace driver;
    REQUIRE(argc == 2 || (argc == 4 && std::strcmp(argv[2], "--call") == 0), "usage: plugin_host LIBRARY [--call NAME]");
    catchSignals();
    if (argc == 4) {
        const auto function = reinterpret_cast<int (*)()>(dlsym(load(argv[1]), argv[3]));
        REQUIRE(function != nullptr, "the library does not export %s", argv[3]);
        return function();
    }
    // Nothing but the response may appear on standard output.
    responseDescriptor = dup(1);
    dup2(2, 1);
    const int64_t requests = readNumber();
    void* const library = load(argv[1]);
    for (int64_t i = 0; i < requests; ++i) {
        const Request request = readRequest();
        Response response;
        drive(library, request, response);
        REQUIRE(cpu_cuda::allocatedBytes() == 0, "%zu bytes of device memory were never freed", cpu_cuda::allocatedBytes());
        writeResponse(response);
    }
    return 0;
}
