// TVM's sources include the driver API for its types only.
#pragma once
#include "cuda_runtime_api.h"
