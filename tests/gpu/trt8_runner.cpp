// Builds and runs the engines of a trial with TensorRT 8.6, and writes what happened as JSON lines.
//
//   trt8_runner build <manifest> <results>   parses, builds, writes <folder>/trial.engine
//   trt8_runner run   <manifest> <results>   deserializes (in a process of its own), runs, and tries graph, threads
//                                            and many rounds
//   trt8_runner compute <manifest> <results> deserializes and runs only, for tools that watch every access
//
// One line of the manifest is one case: id, plugin, folder, the builder's flags (`-`, or `fp16`, `int8` joined by commas).
// The folder holds plugin.so, model.onnx and the inputs <set>.<tensor>.bin; `run` writes <set>.<tensor>.actual.
#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <cuda_runtime_api.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace
{

using nvinfer1::DataType;
using nvinfer1::Dims;

constexpr int kRepetitions = 100; // launches of the graph in one measurement
constexpr int kThreadRounds = 200;
constexpr int kWarmUp = 100;
constexpr int kContextRounds = 1000;
constexpr int kEngineWarmUp = 20;
constexpr int kEngineRounds = 100;
char const* const kSets[] = {"a", "b"};

std::mutex collecting;
std::string collected; // the errors that TensorRT logged for the case at hand

class Logger final : public nvinfer1::ILogger
{
public:
    void log(Severity severity, char const* message) noexcept override
    {
        if (severity <= Severity::kWARNING)
        {
            std::fprintf(stderr, "[TensorRT] %s\n", message);
        }
        if (severity <= Severity::kERROR)
        {
            std::lock_guard<std::mutex> const lock(collecting);
            collected += collected.empty() ? "" : "; ";
            collected += message;
        }
    }
};

Logger logger;

void check(cudaError_t status, char const* what)
{
    if (status != cudaSuccess)
    {
        throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
    }
}

#define CHECK(call) check((call), #call)

void require(bool condition, std::string const& what)
{
    if (!condition)
    {
        throw std::runtime_error(collected.empty() ? what : what + " (" + collected + ")");
    }
}

double seconds()
{
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string quoted(std::string const& text)
{
    std::string result = "\"";
    for (unsigned char const c : text)
    {
        if (c == '"' || c == '\\')
        {
            result += '\\';
            result += static_cast<char>(c);
        }
        else if (c < 0x20 || c > 0x7e)
        {
            result += ' ';
        }
        else
        {
            result += static_cast<char>(c);
        }
    }
    return result + "\"";
}

std::vector<char> readFile(std::string const& path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file)
    {
        throw std::runtime_error("cannot read " + path);
    }
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void writeFile(std::string const& path, void const* data, size_t bytes)
{
    std::ofstream file(path, std::ios::binary);
    file.write(static_cast<char const*>(data), static_cast<std::streamsize>(bytes));
    file.close();
    if (!file)
    {
        throw std::runtime_error("cannot write " + path);
    }
}

char const* nameOf(DataType type)
{
    switch (type)
    {
    case DataType::kFLOAT: return "float32";
    case DataType::kHALF: return "float16";
    case DataType::kINT8: return "int8";
    case DataType::kINT32: return "int32";
    case DataType::kBOOL: return "bool";
    case DataType::kUINT8: return "uint8";
    default: return "another";
    }
}

size_t sizeOf(DataType type)
{
    return type == DataType::kFLOAT || type == DataType::kINT32 ? 4 : type == DataType::kHALF ? 2 : 1;
}

size_t volumeOf(Dims const& dims)
{
    size_t volume = 1;
    for (int i = 0; i < dims.nbDims; ++i)
    {
        volume *= static_cast<size_t>(dims.d[i]);
    }
    return volume;
}

struct Case
{
    std::string id;
    std::string plugin;
    std::string folder;
    std::string flags;

    bool has(char const* flag) const
    {
        return ("," + flags + ",").find(std::string(",") + flag + ",") != std::string::npos;
    }
};

// Loads the library, unless it is loaded: the registry takes each plugin once.
void loadPlugins(Case const& item)
{
    static std::set<std::string> loaded;
    if (loaded.count(item.plugin) > 0)
    {
        return;
    }
    require(getPluginRegistry()->loadLibrary((item.folder + "/plugin.so").c_str()) != nullptr,
        "the plugin library was refused");
    loaded.insert(item.plugin);
}

// The place of the parser's destructor among its virtual functions changed within 8.6; that of destroy() did not.
struct DestroyParser
{
    void operator()(nvonnxparser::IParser* parser) const
    {
        parser->destroy();
    }
};

// --- build ----------------------------------------------------------------------------------------------------------

std::string build(Case const& item)
{
    loadPlugins(item);
    // One for all cases: it takes seconds to make.
    static std::unique_ptr<nvinfer1::IBuilder> const builder(nvinfer1::createInferBuilder(logger));
    require(builder != nullptr, "no builder");
    double const start = seconds(); // a builder's own start is no part of a build
    std::unique_ptr<nvinfer1::INetworkDefinition> const network(builder->createNetworkV2(
        1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH)));
    std::unique_ptr<nvonnxparser::IParser, DestroyParser> const parser(nvonnxparser::createParser(*network, logger));
    bool const parsed = parser->parseFromFile(
        (item.folder + "/model.onnx").c_str(), static_cast<int>(nvinfer1::ILogger::Severity::kWARNING));
    require(parsed, parser->getNbErrors() > 0 ? parser->getError(0)->desc() : "the parser refused the model");
    std::unique_ptr<nvinfer1::IBuilderConfig> const config(builder->createBuilderConfig());
    // cuBLAS and cuDNN need not be there: the network's own layers are Casts.
    config->setTacticSources(0);
    config->setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, 1ULL << 30);
    if (item.has("fp16"))
    {
        config->setFlag(nvinfer1::BuilderFlag::kFP16);
    }
    if (item.has("int8"))
    {
        config->setFlag(nvinfer1::BuilderFlag::kINT8);
        for (int i = 0; i < network->getNbInputs(); ++i)
        {
            // int8 enters a network of this release as a quantized tensor: one with scale 1 here.
            if (network->getInput(i)->getType() == DataType::kINT8)
            {
                require(network->getInput(i)->setDynamicRange(-127.0F, 127.0F), "no dynamic range");
            }
        }
    }
    int plugins = 0;
    for (int i = 0; i < network->getNbLayers(); ++i)
    {
        bool const isPlugin = network->getLayer(i)->getType() == nvinfer1::LayerType::kPLUGIN_V2;
        plugins += isPlugin ? 1 : 0;
    }
    require(plugins == 1, "the network has not one plugin layer but " + std::to_string(plugins));
    std::unique_ptr<nvinfer1::IHostMemory> const engine(builder->buildSerializedNetwork(*network, *config));
    require(engine != nullptr, "the builder refused the network");
    double const took = seconds() - start;
    writeFile(item.folder + "/trial.engine", engine->data(), engine->size());
    std::ostringstream out;
    out << "\"seconds\": " << took << ", \"bytes\": " << engine->size() << ", \"layers\": " << network->getNbLayers();
    return out.str();
}

// --- run ------------------------------------------------------------------------------------------------------------

struct Tensor
{
    std::string name;
    DataType type;
    Dims dims;
    bool isInput;
    size_t bytes;
};

std::vector<Tensor> tensorsOf(nvinfer1::ICudaEngine const& engine)
{
    std::vector<Tensor> tensors;
    for (int i = 0; i < engine.getNbIOTensors(); ++i)
    {
        char const* const name = engine.getIOTensorName(i);
        DataType const type = engine.getTensorDataType(name);
        Dims const dims = engine.getTensorShape(name);
        bool const isInput = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        tensors.push_back({name, type, dims, isInput, volumeOf(dims) * sizeOf(type)});
    }
    return tensors;
}

using Outputs = std::map<std::string, std::vector<char>>;

// A context with device memory and a stream of its own.
class Session
{
public:
    Session(nvinfer1::ICudaEngine& engine, std::vector<Tensor> const& tensors)
        : mTensors(tensors)
        , mContext(engine.createExecutionContext())
    {
        require(mContext != nullptr, "no execution context");
        CHECK(cudaStreamCreateWithFlags(&mStream, cudaStreamNonBlocking));
        for (Tensor const& tensor : mTensors)
        {
            void* memory = nullptr;
            CHECK(cudaMalloc(&memory, std::max<size_t>(tensor.bytes, 1)));
            mMemory[tensor.name] = memory;
            require(mContext->setTensorAddress(tensor.name.c_str(), memory), "no address");
        }
    }
    ~Session()
    {
        if (mGraph != nullptr)
        {
            cudaGraphExecDestroy(mGraph);
        }
        for (auto const& entry : mMemory)
        {
            cudaFree(entry.second);
        }
        cudaStreamDestroy(mStream);
    }
    Session(Session const&) = delete;
    Session& operator=(Session const&) = delete;

    void upload(std::map<std::string, std::vector<char>> const& inputs)
    {
        for (auto const& entry : inputs)
        {
            CHECK(cudaMemcpyAsync(
                mMemory.at(entry.first), entry.second.data(), entry.second.size(), cudaMemcpyHostToDevice, mStream));
        }
    }
    void poison(int byte)
    {
        for (Tensor const& tensor : mTensors)
        {
            if (!tensor.isInput)
            {
                CHECK(cudaMemsetAsync(mMemory.at(tensor.name), byte, tensor.bytes, mStream));
            }
        }
    }
    void enqueue()
    {
        require(mContext->enqueueV3(mStream), "enqueueV3 failed");
    }
    Outputs download()
    {
        Outputs outputs;
        for (Tensor const& tensor : mTensors)
        {
            if (!tensor.isInput)
            {
                std::vector<char>& data = outputs[tensor.name];
                data.resize(tensor.bytes);
                CHECK(cudaMemcpyAsync(
                    data.data(), mMemory.at(tensor.name), tensor.bytes, cudaMemcpyDeviceToHost, mStream));
            }
        }
        synchronize();
        return outputs;
    }
    void synchronize()
    {
        CHECK(cudaStreamSynchronize(mStream));
        CHECK(cudaGetLastError());
    }
    // One execution as a graph.
    void capture()
    {
        cudaGraph_t graph = nullptr;
        CHECK(cudaStreamBeginCapture(mStream, cudaStreamCaptureModeThreadLocal));
        bool const enqueued = mContext->enqueueV3(mStream);
        CHECK(cudaStreamEndCapture(mStream, &graph));
        require(enqueued, "enqueueV3 failed during capture");
        check(cudaGraphInstantiateWithFlags(&mGraph, graph, 0), "cudaGraphInstantiate");
        CHECK(cudaGraphDestroy(graph));
    }
    void launch()
    {
        CHECK(cudaGraphLaunch(mGraph, mStream));
    }
    // Median of several measurements, microseconds of one execution in the graph.
    double time()
    {
        cudaEvent_t start = nullptr;
        cudaEvent_t stop = nullptr;
        CHECK(cudaEventCreate(&start));
        CHECK(cudaEventCreate(&stop));
        std::vector<double> measured;
        for (int i = 0; i < 12; ++i)
        {
            CHECK(cudaEventRecord(start, mStream));
            for (int k = 0; k < kRepetitions; ++k)
            {
                launch();
            }
            CHECK(cudaEventRecord(stop, mStream));
            synchronize();
            float milliseconds = 0;
            CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
            if (i > 0)
            {
                measured.push_back(1000.0 * milliseconds / kRepetitions);
            }
        }
        CHECK(cudaEventDestroy(start));
        CHECK(cudaEventDestroy(stop));
        std::sort(measured.begin(), measured.end());
        return measured[measured.size() / 2];
    }

private:
    std::vector<Tensor> const& mTensors;
    std::unique_ptr<nvinfer1::IExecutionContext> mContext;
    cudaStream_t mStream{};
    std::map<std::string, void*> mMemory;
    cudaGraphExec_t mGraph{};
};

struct Memory
{
    int64_t host;
    int64_t device;
};

// Bytes in use: of the heap of this process, and of the whole device.
Memory memoryInUse()
{
    struct mallinfo2 const heap = mallinfo2();
    size_t free = 0;
    size_t total = 0;
    CHECK(cudaMemGetInfo(&free, &total));
    return {static_cast<int64_t>(heap.uordblks + heap.hblkhd), static_cast<int64_t>(total - free)};
}

// Calls `round` and says how many bytes of host and device memory the rounds after the warm-up left behind: in the half
// of them that left less, since a leak is in both, and what TensorRT allocates once for the process in one.
template <typename Round>
std::string soak(char const* name, int warmUp, int rounds, Round const& round)
{
    int const half = (rounds - warmUp) / 2;
    std::vector<Memory> seen;
    for (int i = 0; i < warmUp + 2 * half; ++i)
    {
        if (i >= warmUp && (i - warmUp) % half == 0)
        {
            seen.push_back(memoryInUse());
        }
        round();
    }
    seen.push_back(memoryInUse());
    std::ostringstream out;
    out << quoted(name) << ": {\"rounds\": " << rounds << ", \"measured_rounds\": " << half << ", \"host_bytes\": "
        << std::min(seen[1].host - seen[0].host, seen[2].host - seen[1].host) << ", \"device_bytes\": "
        << std::min(seen[1].device - seen[0].device, seen[2].device - seen[1].device) << "}";
    return out.str();
}

std::string graphTrial(Session& session, std::map<std::string, Outputs> const& inputs,
    std::map<std::string, Outputs> const& expected)
{
    session.capture();
    int poison = 0x33;
    for (char const* const set : kSets)
    {
        session.upload(inputs.at(set));
        session.poison(poison++);
        session.launch();
        if (session.download() != expected.at(set))
        {
            return std::string("outputs for inputs ") + set + " differ from those without a graph";
        }
    }
    return "";
}

// Two contexts on two streams from two threads, each with inputs of its own.
std::string threadTrial(nvinfer1::ICudaEngine& engine, std::vector<Tensor> const& tensors,
    std::map<std::string, Outputs> const& inputs, std::map<std::string, Outputs> const& expected)
{
    std::string messages[2];
    std::unique_ptr<Session> sessions[2];
    std::vector<std::thread> threads;
    for (auto& session : sessions)
    {
        session.reset(new Session(engine, tensors));
    }
    for (int t = 0; t < 2; ++t)
    {
        threads.emplace_back([&, t] {
            try
            {
                for (int i = 0; i < kThreadRounds && messages[t].empty(); ++i)
                {
                    sessions[t]->upload(inputs.at(kSets[t]));
                    sessions[t]->poison(i & 0xff);
                    sessions[t]->enqueue();
                    if (sessions[t]->download() != expected.at(kSets[t]))
                    {
                        messages[t] = "thread " + std::to_string(t) + ", round " + std::to_string(i)
                            + ": outputs differ from those of one thread";
                    }
                }
            }
            catch (std::exception const& error)
            {
                messages[t] = error.what();
            }
        });
    }
    for (std::thread& thread : threads)
    {
        thread.join();
    }
    return messages[0].empty() ? messages[1] : messages[0];
}

std::string run(Case const& item, bool withTrials)
{
    loadPlugins(item);
    std::vector<char> const data = readFile(item.folder + "/trial.engine");
    std::unique_ptr<nvinfer1::IRuntime> const runtime(nvinfer1::createInferRuntime(logger));
    std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(data.data(), data.size()));
    require(engine != nullptr, "the engine cannot be deserialized");
    std::vector<Tensor> const tensors = tensorsOf(*engine);

    std::ostringstream out;
    out << "\"outputs\": [";
    char const* separator = "";
    for (Tensor const& tensor : tensors)
    {
        if (!tensor.isInput)
        {
            out << separator << "{\"name\": " << quoted(tensor.name) << ", \"dtype\": " << quoted(nameOf(tensor.type))
                << ", \"shape\": [";
            for (int i = 0; i < tensor.dims.nbDims; ++i)
            {
                out << (i > 0 ? ", " : "") << tensor.dims.d[i];
            }
            out << "]}";
            separator = ", ";
        }
    }
    out << "]";

    std::map<std::string, Outputs> inputs;
    for (char const* const set : kSets)
    {
        for (Tensor const& tensor : tensors)
        {
            if (tensor.isInput)
            {
                std::vector<char>& bytes = inputs[set][tensor.name];
                bytes = readFile(item.folder + "/" + set + "." + tensor.name + ".bin");
                require(bytes.size() == tensor.bytes, "input " + tensor.name + " is " + nameOf(tensor.type) + " with "
                        + std::to_string(tensor.bytes) + " bytes, the file has " + std::to_string(bytes.size()));
            }
        }
    }

    std::map<std::string, Outputs> results;
    {
        Session session(*engine, tensors);
        for (char const* const set : kSets)
        {
            session.upload(inputs[set]);
            session.poison(0xa5);
            session.enqueue();
            results[set] = session.download();
            session.poison(0x5a);
            session.enqueue();
            require(session.download() == results[set], "outputs depend on what was in their memory, or on chance");
            for (auto const& output : results[set])
            {
                writeFile(item.folder + "/" + set + "." + output.first + ".actual", output.second.data(),
                    output.second.size());
            }
        }
        if (withTrials)
        {
            out << ", \"graph\": " << quoted(graphTrial(session, inputs, results))
                << ", \"microseconds\": " << session.time();
        }
    }
    if (!withTrials)
    {
        return out.str();
    }
    out << ", \"threads\": " << quoted(threadTrial(*engine, tensors, inputs, results));

    auto const execute = [&](nvinfer1::ICudaEngine& from) {
        Session session(from, tensors);
        session.upload(inputs["a"]);
        session.enqueue();
        session.synchronize();
    };
    out << ", " << soak("contexts", kWarmUp, kContextRounds, [&] { execute(*engine); });
    out << ", " << soak("engines", kEngineWarmUp, kEngineRounds, [&] {
        std::unique_ptr<nvinfer1::ICudaEngine> const another(
            runtime->deserializeCudaEngine(data.data(), data.size()));
        require(another != nullptr, "the engine cannot be deserialized again");
        execute(*another);
    });
    return out.str();
}

} // namespace

int main(int argc, char** argv)
{
    std::string const mode = argc > 1 ? argv[1] : "";
    if (argc != 4 || (mode != "build" && mode != "run" && mode != "compute"))
    {
        std::fprintf(stderr, "usage: %s build|run|compute MANIFEST RESULTS\n", argv[0]);
        return 2;
    }
    std::ifstream manifest(argv[2]);
    std::ofstream results(argv[3], std::ios::app);
    int const version = getInferLibVersion();
    results << "{\"version\": \"" << version / 1000 << "." << version / 100 % 10 << "." << version % 100 << "\"}"
            << std::endl;
    Case item;
    while (manifest >> item.id >> item.plugin >> item.folder >> item.flags)
    {
        // Where the process ends without a result, this line tells which case it was.
        results << "{\"id\": " << quoted(item.id) << ", \"begin\": true}" << std::endl;
        std::string body;
        collected.clear();
        try
        {
            body = "\"ok\": true, " + (mode == "build" ? build(item) : run(item, mode == "run"));
        }
        catch (std::exception const& error)
        {
            body = "\"ok\": false, \"message\": " + quoted(error.what());
        }
        results << "{\"id\": " << quoted(item.id) << ", " << body << ", \"logged\": " << quoted(collected) << "}"
                << std::endl;
    }
    return results ? 0 : 1;
}
