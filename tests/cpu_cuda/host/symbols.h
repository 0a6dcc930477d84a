#pragma once

#include <string>

namespace cpu_cuda {

// Reads the symbol table of a library that dlopen gave; false and a message where that fails.
bool readSymbols(void* library, std::string& error);

}  // namespace cpu_cuda
