// What the symbol table of a loaded library says about its kernels: their names, and where in the library's thread-local
// storage their __shared__ variables lie (g++ names a variable of function F `_ZZ<F>E<name>`, its flag `_ZGVZ<F>E<name>`).
#include "symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>

#include "execution.h"

extern "C" void* __tls_get_addr(size_t* index);

namespace cpu_cuda {
namespace {

std::map<const void*, KernelInfo>& kernels() {
    static std::map<const void*, KernelInfo> table;
    return table;
}

// `_ZZ<encoding>E...` begins with this for the function of that symbol name.
std::string localPrefix(const std::string& function) {
    if (function.compare(0, 2, "_Z") == 0) return "_ZZ" + function.substr(2) + "E";
    return "_ZZ" + std::to_string(function.size()) + function + "E";
}

}  // namespace

bool readSymbols(void* library, std::string& error) {
    link_map* map = nullptr;
    size_t module = 0;
    if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || dlinfo(library, RTLD_DI_TLS_MODID, &module) != 0) {
        error = dlerror();
        return false;
    }
    std::ifstream file(map->l_name, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (bytes.size() < sizeof(Elf64_Ehdr)) {
        error = "cannot read the library's symbol table";
        return false;
    }
    const auto* const header = reinterpret_cast<const Elf64_Ehdr*>(bytes.data());
    const auto* const sections = reinterpret_cast<const Elf64_Shdr*>(bytes.data() + header->e_shoff);
    std::vector<size_t> dynamic;
    std::vector<std::pair<std::string, const Elf64_Sym*>> functions, local;
    for (int s = 0; s < header->e_shnum; ++s) {
        if (sections[s].sh_type != SHT_SYMTAB) continue;
        const char* const names = bytes.data() + sections[sections[s].sh_link].sh_offset;
        const auto* const symbols = reinterpret_cast<const Elf64_Sym*>(bytes.data() + sections[s].sh_offset);
        for (size_t i = 0; i < sections[s].sh_size / sizeof(Elf64_Sym); ++i) {
            const std::string name = names + symbols[i].st_name;
            const int type = ELF64_ST_TYPE(symbols[i].st_info);
            if (type == STT_FUNC && symbols[i].st_value != 0) functions.emplace_back(name, &symbols[i]);
            if (type == STT_TLS && (name.compare(0, 3, "_ZZ") == 0 || name.compare(0, 5, "_ZGVZ") == 0)) {
                local.emplace_back(name, &symbols[i]);
            } else if (type == STT_TLS && symbols[i].st_size == kDynamicArray) {
                dynamic.push_back(symbols[i].st_value);
            }
        }
    }
    for (const auto& function : functions) {
        KernelInfo info{function.first, module, {}, {}, 0, dynamic};
        const std::string prefix = localPrefix(function.first);
        const std::string flagPrefix = "_ZGV" + prefix.substr(2);
        for (const auto& variable : local) {
            if (variable.first.compare(0, flagPrefix.size(), flagPrefix) == 0) {
                info.flags.push_back({variable.second->st_value, variable.second->st_size});
            }
            if (variable.first.compare(0, prefix.size(), prefix) != 0) continue;
            info.shared.push_back({variable.second->st_value, variable.second->st_size});
            info.staticShared += variable.second->st_size;
        }
        kernels()[reinterpret_cast<const void*>(map->l_addr + function.second->st_value)] = info;
    }
    return true;
}

const KernelInfo* findKernel(const void* kernel) {
    const auto found = kernels().find(kernel);
    return found == kernels().end() ? nullptr : &found->second;
}

unsigned char* threadLocalBlock(size_t moduleIndex) {
    size_t index[2] = {moduleIndex, 0};
    return static_cast<unsigned char*>(__tls_get_addr(index));
}

namespace {

struct ImageQuery {
    uintptr_t address;
    bool write;
    bool found;
};

int visitImage(dl_phdr_info* info, size_t, void* data) {
    auto* const query = static_cast<ImageQuery*>(data);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& segment = info->dlpi_phdr[i];
        const uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
        if (segment.p_type == PT_LOAD && query->address >= begin && query->address < begin + segment.p_memsz) {
            query->found = !query->write || (segment.p_flags & PF_W) != 0;
            return 1;
        }
    }
    return 0;
}

}  // namespace

bool inLoadedImage(const void* address, bool write) {
    ImageQuery query{reinterpret_cast<uintptr_t>(address), write, false};
    dl_iterate_phdr(&visitImage, &query);
    return query.found;
}

}  // namespace cpu_cuda
