// TensorRT's plugin interfaces: NVIDIA's headers where they are found and fit, else the declarations beside this file.
//
// Define before including:
//   PLUGIN_AUTOGEN_INTERFACE   2: IPluginV2DynamicExt for TensorRT 8.2 to 8.6; 3: IPluginV3 for TensorRT 10, 11 and
//                              TensorRT-RTX 1.7 (generated sources do this).
//   PLUGIN_AUTOGEN_TENSORRT_HEADERS
//                              1: NVIDIA's headers, whatever their release (IPluginV2DynamicExt compiled against those of
//                              10.x makes a library for 10.x); 0: ours; not defined: NVIDIA's if their release fits.
#ifndef PLUGIN_AUTOGEN_NVINFER_INTERFACE_H
#define PLUGIN_AUTOGEN_NVINFER_INTERFACE_H

#if !defined(PLUGIN_AUTOGEN_INTERFACE) || (PLUGIN_AUTOGEN_INTERFACE != 2 && PLUGIN_AUTOGEN_INTERFACE != 3)
#error "define PLUGIN_AUTOGEN_INTERFACE as 2 or 3 before including nvinfer_interface.h"
#endif

#if !defined(PLUGIN_AUTOGEN_TENSORRT_HEADERS)
#if defined(__has_include)
#if __has_include(<NvInferVersion.h>)
#include <NvInferVersion.h>
#if PLUGIN_AUTOGEN_INTERFACE == 2 && NV_TENSORRT_MAJOR == 8
#define PLUGIN_AUTOGEN_TENSORRT_HEADERS 1
#elif PLUGIN_AUTOGEN_INTERFACE == 3 && NV_TENSORRT_MAJOR >= 10
#define PLUGIN_AUTOGEN_TENSORRT_HEADERS 1
#endif
#endif
#endif
#endif

#if !defined(PLUGIN_AUTOGEN_TENSORRT_HEADERS)
#define PLUGIN_AUTOGEN_TENSORRT_HEADERS 0
#endif

#if PLUGIN_AUTOGEN_TENSORRT_HEADERS
#include <NvInferRuntime.h>
#elif PLUGIN_AUTOGEN_INTERFACE == 2
#include "nvinfer_plugin_v2.h"
#else
#include "nvinfer_plugin_v3.h"
#endif

#endif // PLUGIN_AUTOGEN_NVINFER_INTERFACE_H
