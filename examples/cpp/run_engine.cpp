// Runs an engine with generated plugins: loads their libraries, deserializes the engine, moves raw tensors in and out.
//
//   run_engine model.engine --plugin=plugins/lib/tpat_x.so --shape=x:1x3x224x224 --input=x:x.bin --output=y:y.bin
//
// --plugin, --shape, --input and --output may be repeated; an input without a file is 0. Works with TensorRT 8.2 to 11.
#include <NvInferRuntime.h>

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#define TENSORRT_RELEASE (NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR)

namespace
{

class Logger final : public nvinfer1::ILogger
{
public:
    void log(Severity severity, char const* message) noexcept override
    {
        if (severity <= Severity::kWARNING)
        {
            std::fprintf(stderr, "%s\n", message); // a plugin's messages come here too
        }
    }
};

void require(bool condition, std::string const& otherwise)
{
    if (!condition)
    {
        throw std::runtime_error(otherwise);
    }
}

void check(cudaError_t status, char const* what)
{
    require(status == cudaSuccess, std::string(what) + ": " + cudaGetErrorString(status));
}

std::vector<char> readFile(std::string const& path)
{
    std::ifstream file(path, std::ios::binary);
    require(static_cast<bool>(file), "cannot read " + path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void writeFile(std::string const& path, std::vector<char> const& data)
{
    std::ofstream file(path, std::ios::binary);
    file.write(data.data(), static_cast<std::streamsize>(data.size()));
    file.close();
    require(static_cast<bool>(file), "cannot write " + path);
}

// Plugins must be known before the engine is deserialized.
void loadPlugins(nvinfer1::IRuntime& runtime, std::string const& path)
{
    // With a slash in it: dlopen looks for a bare name elsewhere.
    std::string const file = path.find('/') == std::string::npos ? "./" + path : path;
#if TENSORRT_RELEASE >= 806
    require(runtime.getPluginRegistry().loadLibrary(file.c_str()) != nullptr, "TensorRT refused " + path);
#else
    // Before 8.6 a library registers its plugins when it is loaded.
    static_cast<void>(runtime);
    require(dlopen(file.c_str(), RTLD_NOW) != nullptr, "cannot load " + path);
#endif
}

nvinfer1::Dims parseShape(std::string const& text)
{
    nvinfer1::Dims dims{};
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, 'x');)
    {
        require(dims.nbDims < nvinfer1::Dims::MAX_DIMS, "too many dimensions: " + text);
        dims.d[dims.nbDims++] = std::stoi(part);
    }
    return dims;
}

std::string toString(nvinfer1::Dims const& dims)
{
    std::string text;
    for (int32_t i = 0; i < dims.nbDims; ++i)
    {
        text += (i > 0 ? "x" : "") + std::to_string(dims.d[i]);
    }
    return text;
}

size_t bytesOf(nvinfer1::Dims const& dims, nvinfer1::DataType type)
{
    size_t bytes = type == nvinfer1::DataType::kFLOAT || type == nvinfer1::DataType::kINT32 ? 4
        : type == nvinfer1::DataType::kHALF                                                 ? 2
                                                                                            : 1;
#if TENSORRT_RELEASE >= 1000
    bytes = type == nvinfer1::DataType::kINT64 ? 8 : type == nvinfer1::DataType::kBF16 ? 2 : bytes;
#endif
    for (int32_t i = 0; i < dims.nbDims; ++i)
    {
        require(dims.d[i] >= 0, "a dimension is still open: name the shapes of all dynamic inputs with --shape");
        bytes *= static_cast<size_t>(dims.d[i]);
    }
    return bytes;
}

struct Free
{
    void operator()(void* memory) const
    {
        cudaFree(memory);
    }
};

struct Destroy
{
    void operator()(CUstream_st* stream) const
    {
        cudaStreamDestroy(stream);
    }
};

struct Tensor
{
    std::string name;
    bool isInput;
    nvinfer1::Dims dims;
    size_t bytes;
    std::unique_ptr<void, Free> memory;

    Tensor(char const* tensor, bool input, nvinfer1::DataType type, nvinfer1::Dims const& shape)
        : name(tensor)
        , isInput(input)
        , dims(shape)
        , bytes(bytesOf(shape, type))
    {
        void* address = nullptr;
        check(cudaMalloc(&address, bytes > 0 ? bytes : 1), "cudaMalloc");
        memory.reset(address);
    }
};

// The engine's inputs and outputs, the inputs' shapes set, with device memory for each.
#if TENSORRT_RELEASE >= 805

std::vector<Tensor> prepare(nvinfer1::ICudaEngine const& engine, nvinfer1::IExecutionContext& context,
    std::map<std::string, std::string> const& shapes)
{
    for (auto const& shape : shapes)
    {
        require(context.setInputShape(shape.first.c_str(), parseShape(shape.second)),
            shape.first + " takes no shape " + shape.second);
    }
    std::vector<Tensor> tensors;
    for (int32_t i = 0; i < engine.getNbIOTensors(); ++i)
    {
        char const* const name = engine.getIOTensorName(i);
        bool const isInput = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        tensors.emplace_back(name, isInput, engine.getTensorDataType(name), context.getTensorShape(name));
        require(context.setTensorAddress(name, tensors.back().memory.get()), std::string("no address for ") + name);
    }
    return tensors;
}

bool enqueue(nvinfer1::IExecutionContext& context, std::vector<Tensor> const& /*tensors*/, cudaStream_t stream)
{
    return context.enqueueV3(stream);
}

#else

std::vector<Tensor> prepare(nvinfer1::ICudaEngine const& engine, nvinfer1::IExecutionContext& context,
    std::map<std::string, std::string> const& shapes)
{
    for (auto const& shape : shapes)
    {
        int32_t const index = engine.getBindingIndex(shape.first.c_str());
        require(index >= 0 && context.setBindingDimensions(index, parseShape(shape.second)),
            shape.first + " takes no shape " + shape.second);
    }
    std::vector<Tensor> tensors;
    for (int32_t i = 0; i < engine.getNbBindings(); ++i)
    {
        tensors.emplace_back(engine.getBindingName(i), engine.bindingIsInput(i), engine.getBindingDataType(i),
            context.getBindingDimensions(i));
    }
    return tensors;
}

bool enqueue(nvinfer1::IExecutionContext& context, std::vector<Tensor> const& tensors, cudaStream_t stream)
{
    std::vector<void*> bindings;
    for (Tensor const& tensor : tensors)
    {
        bindings.push_back(tensor.memory.get());
    }
    return context.enqueueV2(bindings.data(), stream, nullptr);
}

#endif

struct Arguments
{
    std::string engine;
    std::vector<std::string> plugins;
    std::map<std::string, std::string> shapes, inputs, outputs; // by name of the tensor
};

Arguments parse(int argc, char** argv)
{
    Arguments arguments;
    auto const add = [](std::map<std::string, std::string>& map, std::string const& text) {
        size_t const colon = text.rfind(':');
        require(colon != std::string::npos, "write NAME:VALUE instead of " + text);
        map[text.substr(0, colon)] = text.substr(colon + 1);
    };
    for (int i = 1; i < argc; ++i)
    {
        std::string const text = argv[i];
        size_t const equals = text.find('=');
        std::string const option = text.compare(0, 2, "--") == 0 ? text.substr(0, equals) : "";
        std::string const value = equals == std::string::npos ? "" : text.substr(equals + 1);
        if (option.empty() && arguments.engine.empty())
        {
            arguments.engine = text;
        }
        else if (option == "--plugin")
        {
            arguments.plugins.push_back(value);
        }
        else if (option == "--shape")
        {
            add(arguments.shapes, value);
        }
        else if (option == "--input")
        {
            add(arguments.inputs, value);
        }
        else if (option == "--output")
        {
            add(arguments.outputs, value);
        }
        else
        {
            throw std::runtime_error("unknown argument " + text);
        }
    }
    require(!arguments.engine.empty(),
        "usage: run_engine ENGINE [--plugin=FILE] [--shape=NAME:1x8] [--input=NAME:FILE] [--output=NAME:FILE]");
    return arguments;
}

void run(Arguments const& arguments)
{
    Logger logger;
    std::unique_ptr<nvinfer1::IRuntime> const runtime(nvinfer1::createInferRuntime(logger));
    require(runtime != nullptr, "TensorRT cannot be started");
    for (std::string const& plugin : arguments.plugins)
    {
        loadPlugins(*runtime, plugin);
    }
    std::vector<char> const data = readFile(arguments.engine);
    std::unique_ptr<nvinfer1::ICudaEngine> const engine(runtime->deserializeCudaEngine(data.data(), data.size()));
    require(engine != nullptr, arguments.engine + " is no engine for this GPU and TensorRT, or lacks a --plugin");
    std::unique_ptr<nvinfer1::IExecutionContext> const context(engine->createExecutionContext());
    require(context != nullptr, "no execution context");
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    std::unique_ptr<CUstream_st, Destroy> const owner(stream);
    std::vector<Tensor> const tensors = prepare(*engine, *context, arguments.shapes);

    // The memory of a copy must outlive it.
    std::map<std::string, std::vector<char>> contents;
    for (Tensor const& tensor : tensors)
    {
        auto const file = arguments.inputs.find(tensor.name);
        std::vector<char>& content = contents[tensor.name];
        content = tensor.isInput && file != arguments.inputs.end() ? readFile(file->second)
                                                                   : std::vector<char>(tensor.bytes);
        require(content.size() == tensor.bytes,
            tensor.name + " needs " + std::to_string(tensor.bytes) + " bytes, not " + std::to_string(content.size()));
        if (tensor.isInput)
        {
            check(
                cudaMemcpyAsync(tensor.memory.get(), content.data(), content.size(), cudaMemcpyHostToDevice, stream),
                "copy to the device");
        }
    }
    // The first run may load kernels; what is measured is the second.
    require(enqueue(*context, tensors, stream), "TensorRT refused to run");
    check(cudaStreamSynchronize(stream), "the first run");
    auto const start = std::chrono::steady_clock::now();
    require(enqueue(*context, tensors, stream), "TensorRT refused to run");
    check(cudaStreamSynchronize(stream), "the run");
    std::chrono::duration<double, std::milli> const took = std::chrono::steady_clock::now() - start;

    for (Tensor const& tensor : tensors)
    {
        if (!tensor.isInput)
        {
            std::vector<char>& content = contents[tensor.name];
            check(
                cudaMemcpyAsync(content.data(), tensor.memory.get(), content.size(), cudaMemcpyDeviceToHost, stream),
                "copy from the device");
        }
    }
    check(cudaStreamSynchronize(stream), "copies from the device");
    for (Tensor const& tensor : tensors)
    {
        std::printf("%s %s %s\n", tensor.isInput ? "input " : "output", tensor.name.c_str(),
            toString(tensor.dims).c_str());
        auto const file = arguments.outputs.find(tensor.name);
        if (!tensor.isInput && file != arguments.outputs.end())
        {
            writeFile(file->second, contents[tensor.name]);
        }
    }
    std::printf("took   %.3f ms\n", took.count());
}

} // namespace

int main(int argc, char** argv)
{
    try
    {
        run(parse(argc, argv));
        return 0;
    }
    catch (std::exception const& error)
    {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 1;
    }
}
