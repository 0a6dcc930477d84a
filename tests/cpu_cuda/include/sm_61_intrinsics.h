// __dp4a and its kin are declared with the other intrinsics.
#pragma once
#include "cuda_runtime.h"
