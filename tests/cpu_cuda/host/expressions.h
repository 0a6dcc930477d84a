// TensorRT's IExprBuilder and IDimensionExpr as the builder would give them to a plugin. Include the interface first.
#pragma once

#include <memory>
#include <vector>

#include "driver.h"

namespace driver {

// Both generations of the interface: 32-bit sizes in TensorRT 8, 64-bit ones later.
using Size = decltype(std::declval<const nvinfer1::IDimensionExpr&>().getConstantValue());

class Expression final : public nvinfer1::IDimensionExpr, private nvinfer1::apiv::VDimensionExpr {
public:
    Expression(Sizes sizes, bool constant, int32_t sizeOutput) : mSizes(sizes), mConstant(constant), mSizeOutput(sizeOutput) {
        mImpl = this;
    }
    Expression(const Expression&) = delete;
    Expression& operator=(const Expression&) = delete;
    const Sizes& sizes() const { return mSizes; }
    // The output that holds the size; -1 for what is no size tensor.
    int32_t sizeOutput() const { return mSizeOutput; }

    bool isConstant() const override { return mConstant; }
    Size getConstantValue() const override {
        REQUIRE(mConstant, "the plugin asks for the value of a size that is not constant");
        return static_cast<Size>(mSizes.actual);
    }
#if PLUGIN_AUTOGEN_INTERFACE == 3
    bool isSizeTensor() const override { return mSizeOutput >= 0; }
#endif

private:
    Sizes mSizes;
    bool mConstant;
    int32_t mSizeOutput;
};

class Expressions final : public nvinfer1::IExprBuilder, private nvinfer1::apiv::VExprBuilder {
public:
    Expressions() { mImpl = this; }
    Expressions(const Expressions&) = delete;
    Expressions& operator=(const Expressions&) = delete;

    nvinfer1::DimsExprs input(const Tensor& tensor) {
        nvinfer1::DimsExprs dims{};
        dims.nbDims = static_cast<int32_t>(tensor.dims.size());
        for (size_t i = 0; i < tensor.dims.size(); ++i) {
            dims.d[i] = make(Sizes{tensor.dims[i], tensor.min[i], tensor.opt[i], tensor.max[i]}, !tensor.isDynamic(i));
        }
        return dims;
    }

    // A shape tensor: its values as if they were dimensions.
    nvinfer1::DimsExprs values(const std::vector<int64_t>& values) {
        nvinfer1::DimsExprs dims{};
        dims.nbDims = static_cast<int32_t>(values.size());
        for (size_t i = 0; i < values.size(); ++i) {
            dims.d[i] = make(Sizes{values[i], values[i], values[i], values[i]}, false);
        }
        return dims;
    }

    static const Sizes& sizes(const nvinfer1::IDimensionExpr* expression) {
        REQUIRE(expression != nullptr, "an output dimension was left a null pointer");
        return static_cast<const Expression*>(expression)->sizes();
    }

    const nvinfer1::IDimensionExpr* constant(Size value) override {
        return make(Sizes{value, value, value, value}, true);
    }

    const nvinfer1::IDimensionExpr* operation(nvinfer1::DimensionOperation op, const nvinfer1::IDimensionExpr& first,
                                              const nvinfer1::IDimensionExpr& second) override {
        REQUIRE(sizeOutput(&first) < 0 && sizeOutput(&second) < 0, "the plugin computes with a size tensor");
        const Sizes &a = sizes(&first), &b = sizes(&second);
        return make(Sizes{apply(op, a.actual, b.actual), apply(op, a.min, b.min), apply(op, a.opt, b.opt),
                          apply(op, a.max, b.max)},
                    first.isConstant() && second.isConstant());
    }

#if PLUGIN_AUTOGEN_INTERFACE == 3
    const nvinfer1::IDimensionExpr* declareSizeTensor(int32_t output, const nvinfer1::IDimensionExpr& opt,
                                                      const nvinfer1::IDimensionExpr& upper) override {
        REQUIRE(output >= 0, "output %d is declared a size tensor", output);
        REQUIRE(sizeOutput(&opt) < 0 && sizeOutput(&upper) < 0, "a size tensor is bounded by another one");
        for (const auto& known : mOwned) REQUIRE(known->sizeOutput() != output, "output %d is declared twice", output);
        const Sizes &usual = sizes(&opt), &most = sizes(&upper);
        REQUIRE(usual.opt >= 0 && usual.opt <= most.opt, "the usual size %lld is not between 0 and %lld",
                static_cast<long long>(usual.opt), static_cast<long long>(most.opt));
        return make(Sizes{most.actual, 0, usual.opt, most.max}, false, output);
    }
#endif

    static int32_t sizeOutput(const nvinfer1::IDimensionExpr* expression) {
        return static_cast<const Expression*>(expression)->sizeOutput();
    }

private:
    const nvinfer1::IDimensionExpr* make(Sizes sizes, bool isConstant, int32_t sizeOutput = -1) {
        mOwned.push_back(std::make_unique<Expression>(sizes, isConstant, sizeOutput));
        return mOwned.back().get();
    }

    static int64_t apply(nvinfer1::DimensionOperation op, int64_t a, int64_t b) {
        using Op = nvinfer1::DimensionOperation;
        switch (op) {
        case Op::kSUM: return a + b;
        case Op::kPROD: return a * b;
        case Op::kMAX: return a > b ? a : b;
        case Op::kMIN: return a < b ? a : b;
        case Op::kSUB: return a - b;
        case Op::kEQUAL: return a == b;
        case Op::kLESS: return a < b;
        case Op::kFLOOR_DIV:
        case Op::kCEIL_DIV: break;
        }
        REQUIRE(b != 0, "an output dimension divides by zero");
        const int64_t quotient = a / b;
        const bool inexact = a % b != 0;
        const bool negative = (a < 0) != (b < 0);
        if (op == Op::kFLOOR_DIV) return quotient - (inexact && negative);
        return quotient + (inexact && !negative);
    }

    std::vector<std::unique_ptr<Expression>> mOwned;
};

inline nvinfer1::Dims toDims(const std::vector<int64_t>& sizes) {
    nvinfer1::Dims dims{};
    dims.nbDims = static_cast<int32_t>(sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) dims.d[i] = static_cast<decltype(dims.d[0] + 0)>(sizes[i]);
    return dims;
}

inline nvinfer1::PluginTensorDesc describe(const Tensor& tensor) {
    nvinfer1::PluginTensorDesc desc{};
    desc.dims = toDims(tensor.dims);
    for (size_t i = 0; i < tensor.dims.size(); ++i) {
        if (tensor.isDecided(i)) desc.dims.d[i] = -1;
    }
    desc.type = static_cast<nvinfer1::DataType>(tensor.type);
    desc.format = nvinfer1::TensorFormat::kLINEAR;
    desc.scale = 1.0f;
    return desc;
}

// As the builder describes a tensor: -1 where the profile leaves a range.
inline nvinfer1::DynamicPluginTensorDesc describeDynamic(const Tensor& tensor) {
    nvinfer1::DynamicPluginTensorDesc desc{};
    desc.desc = describe(tensor);
    for (size_t i = 0; i < tensor.dims.size(); ++i) {
        if (tensor.isDynamic(i)) desc.desc.dims.d[i] = -1;
    }
    desc.min = toDims(tensor.min);
    desc.max = toDims(tensor.max);
#if PLUGIN_AUTOGEN_INTERFACE == 3
    desc.opt = toDims(tensor.opt);
#endif
    return desc;
}

// The plugin's dimensions of one output against those that the caller expects; fills in the range of the profile. The
// data decide an expected dimension of -1 - k: it must be the size tensor that is output k. Its largest value takes its
// place.
inline void checkOutput(const nvinfer1::DimsExprs& dims, Tensor& expected, size_t index) {
    REQUIRE(dims.nbDims == static_cast<int32_t>(expected.dims.size()), "output %zu has rank %d, expected %zu", index,
            dims.nbDims, expected.dims.size());
    for (size_t i = 0; i < expected.dims.size(); ++i) {
        const Sizes& sizes = Expressions::sizes(dims.d[i]);
        const int32_t output = Expressions::sizeOutput(dims.d[i]);
        if (expected.dims[i] < 0) {
            REQUIRE(output == -1 - expected.dims[i], "dimension %zu of output %zu is given by output %d, expected %lld", i,
                    index, output, static_cast<long long>(-1 - expected.dims[i]));
            expected.dims[i] = sizes.actual;
            expected.decided.resize(expected.dims.size());
            expected.decided[i] = true;
        }
        REQUIRE(output < 0 || expected.isDecided(i), "dimension %zu of output %zu is a size tensor", i, index);
        REQUIRE(sizes.actual == expected.dims[i], "dimension %zu of output %zu is %lld, expected %lld", i, index,
                static_cast<long long>(sizes.actual), static_cast<long long>(expected.dims[i]));
        expected.min[i] = sizes.min;
        expected.opt[i] = sizes.opt;
        expected.max[i] = sizes.max;
    }
}

// The plugin's answer for each position, given the types in use; and its refusal of what no plugin of ours takes.
template <typename Desc, typename Ask>
void checkFormats(std::vector<Desc> tensors, Ask ask, nvinfer1::PluginTensorDesc& (*plain)(Desc&)) {
    for (size_t i = 0; i < tensors.size(); ++i) {
        const auto position = static_cast<int32_t>(i);
        REQUIRE(ask(position, tensors.data()), "supportsFormatCombination refuses tensor %zu of type %d", i,
                static_cast<int>(plain(tensors[i]).type));
        auto other = tensors;
        plain(other[i]).format = static_cast<nvinfer1::TensorFormat>(1);
        REQUIRE(!ask(position, other.data()), "supportsFormatCombination takes tensor %zu in a format that is not linear", i);
        other = tensors;
        plain(other[i]).type = static_cast<nvinfer1::DataType>(99);
        REQUIRE(!ask(position, other.data()), "supportsFormatCombination takes tensor %zu in a type that does not exist", i);
    }
}

}  // namespace driver
