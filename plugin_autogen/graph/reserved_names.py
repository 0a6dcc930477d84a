"""Operator and plugin names that TensorRT owns, so that no generated plugin may bear them.

The parser looks an operator type up among its own importers first, whatever the node's domain, and asks the plugin
registry only for the rest. The registry takes the first creator of a name.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Importers of the ONNX parser: the DEFINE_BUILTIN_OP_IMPORTER entries of onnx/onnx-tensorrt at 8.2-GA, 8.4-GA, 8.5-GA,
# 8.6-GA, 9.3 and 10.1-GA, and what `OnnxParser.supports_operator` of TensorRT-RTX 1.7 says yes to.
PARSER_OPERATORS = _words(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization
    BlackmanWindow Cast CastLike CausalConvWithState Ceil Celu Clip Concat Constant ConstantOfShape Conv
    ConvTranspose Cos Cosh CumSum DeformConv DepthToSpace DequantizeLinear DistCollective Div Dropout Einsum Elu
    Equal Erf Exp Expand EyeLike FallbackPluginImporter Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization
    GroupQueryAttention HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageScaler
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual LinearAttention
    LocalFunctionImporter Log LogSoftmax Loop LpNormalization LpPool MatMul MatMulNBits Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul MultiHeadAttention Neg NonMaxSuppression NonZero Not OneHot Or
    PRelu Pad ParametricSoftplus Pow QMoE QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike
    RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
    RotaryEmbedding Round STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign
    SimplifiedLayerNormalization Sin Sinh Size SkipSimplifiedLayerNormalization Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Swish TRT_AveragePool TRT_Conv TRT_Deconv TRT_FP8DequantizeLinear
    TRT_FP8QuantizeLinear TRT_FloorDiv TRT_FullyConnected TRT_Gather TRT_INT4DequantizeLinear
    TRT_INT4QuantizeLinear TRT_MXFP8DequantizeLinear TRT_MXFP8DynamicQuantize TRT_MXFP8QuantizeLinear TRT_MatMul
    TRT_MaxAverageBlendPool TRT_MaxPool TRT_MoE TRT_PluginV2 TRT_RNNv2 TRT_RaggedSoftmax TRT_Resize TRT_Scale
    TRT_Shuffle TRT_Slice TRT_TopK_Min Tan Tanh TensorScatter ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze
    Upsample Where Xor
    """
)

# Plugins of TensorRT's own: the names that the plugin/ folder of NVIDIA/TensorRT registers at 8.2, 8.4, 8.5, 8.6, 10.0,
# 10.16 and 11.1.
TENSORRT_PLUGINS = _words(
    """
    BatchTilePlugin_TRT BatchedNMSDynamic_TRT BatchedNMS_TRT Clip_TRT CoordConvAC CropAndResize
    CropAndResizeDynamic CustomEmbLayerNormPluginDynamic CustomFCPluginDynamic CustomGeluPluginDynamic
    CustomQKVToContextPluginDynamic CustomQKVToContextWithPosBiasPluginDynamic CustomSkipLayerNormPluginDynamic
    DecodeBbox3DPlugin DetectionLayer_TRT DisentangledAttention_TRT EfficientNMS_Explicit_TF_TRT
    EfficientNMS_Implicit_TF_TRT EfficientNMS_ONNX_TRT EfficientNMS_TFTRT_TRT EfficientNMS_TRT FlattenConcat_TRT
    GenerateDetection_TRT GridAnchorRect_TRT GridAnchor_TRT GroupNormalizationPlugin InstanceNormalization_TRT
    LReLU_TRT LayerNorm ModulatedDeformConv2d MultilevelCropAndResize_TRT MultilevelProposeROI_TRT
    MultiscaleDeformableAttnPlugin_TRT MyelinWeightsTransformPlugin NMSDynamic_TRT NMS_TRT Normalize_TRT
    PillarScatterPlugin PriorBox_TRT Proposal ProposalDynamic ProposalLayer_TRT PyramidROIAlign_TRT ROIAlign_TRT
    RPROI_TRT Region_TRT Reorg_TRT ResizeNearest_TRT ScatterElements ScatterND SpecialSlice_TRT Split SplitGeLU
    TopkLastDim VoxelGeneratorPlugin fMHA_V2 fMHCA
    """
)
