// Stands before the C library and lets one call of a save fail: a call that changes or syncs something whose
// path names a folder `checkpoints`. A program is linked with it, or started with LD_PRELOAD and
//   PLAIT_FAULT=ENOSPC|EIO|short   what happens; a short write writes half
//   PLAIT_FAULT_CALL=N             at which call, from 1
//   PLAIT_FAULT_LASTS=1            and at all calls after it that could fail so
//   PLAIT_FAULT_COUNT=FILE         where the number of calls is written at the end
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "faulty_files.hpp"

namespace {

std::atomic<long> calls{0}, fault_call{0};
std::atomic<int> fault_error{0};  // -1: a short write
std::atomic<bool> fault_lasts{false};
std::atomic<bool> watched[4096];

template <class F>
F* real(char const* name) {
    return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

bool of_save(char const* path) { return path && std::strstr(path, "/checkpoints") != nullptr; }
bool of_save(int descriptor) { return descriptor >= 0 && descriptor < 4096 && watched[descriptor]; }

/// Counts a call; whether it is to fail, with errno set, or be short.
enum class Fate { works, fails, is_short };
Fate next_call(bool writes) {
    long const call = ++calls, at = fault_call;
    if (at == 0 || call < at || (call > at && !fault_lasts)) return Fate::works;
    if (fault_error < 0) return writes ? Fate::is_short : Fate::works;
    errno = fault_error;
    return Fate::fails;
}

struct FromEnvironment {
    FromEnvironment() {
        auto const *fault = std::getenv("PLAIT_FAULT"), *call = std::getenv("PLAIT_FAULT_CALL");
        if (!fault || !call) return;
        auto is = [&](char const* name) { return std::strcmp(fault, name) == 0; };
        faulty_files_set(std::atol(call),
                         is("short") ? -1
                         : is("EIO") ? EIO
                                     : ENOSPC,
                         std::getenv("PLAIT_FAULT_LASTS") != nullptr);
    }
    ~FromEnvironment() {
        auto const* path = std::getenv("PLAIT_FAULT_COUNT");
        auto* file = path ? std::fopen(path, "w") : nullptr;
        if (!file) return;
        std::fprintf(file, "%ld\n", calls.load());
        std::fclose(file);
    }
} from_environment;

int watch(int descriptor) {
    if (descriptor >= 0 && descriptor < 4096) watched[descriptor] = true;
    return descriptor;
}

}  // namespace

extern "C" {

void faulty_files_set(long call, int error, bool lasts) {
    calls = 0;
    fault_error = error;
    fault_lasts = lasts;
    fault_call = call;
}

long faulty_files_calls() { return calls; }

int open(char const* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    auto const mode = static_cast<mode_t>(va_arg(more, unsigned));
    va_end(more);
    auto* const call = real<int(char const*, int, ...)>("open");
    bool const reads = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_DIRECTORY);
    if (reads || !of_save(path)) return call(path, flags, mode);
    return next_call(false) == Fate::fails ? -1 : watch(call(path, flags, mode));
}

ssize_t write(int descriptor, void const* bytes, size_t count) {
    auto* const call = real<ssize_t(int, void const*, size_t)>("write");
    if (!of_save(descriptor)) return call(descriptor, bytes, count);
    auto const fate = next_call(true);
    if (fate == Fate::fails) return -1;
    return call(descriptor, bytes, fate == Fate::is_short && count > 1 ? count / 2 : count);
}

int fsync(int descriptor) {
    if (of_save(descriptor) && next_call(false) == Fate::fails) return -1;
    return real<int(int)>("fsync")(descriptor);
}

int close(int descriptor) {
    bool const counted = of_save(descriptor);
    if (counted) watched[descriptor] = false;
    bool const fails = counted && next_call(false) == Fate::fails;
    int const reason = errno, result = real<int(int)>("close")(descriptor);
    if (!fails) return result;
    errno = reason;  // the descriptor is gone all the same, as with the system's own failures
    return -1;
}

int rename(char const* from, char const* to) noexcept {
    if (of_save(to) && next_call(false) == Fate::fails) return -1;
    return real<int(char const*, char const*)>("rename")(from, to);
}

int renameat2(int from_folder, char const* from, int to_folder, char const* to, unsigned flags) noexcept {
    if (of_save(to) && next_call(false) == Fate::fails) return -1;
    return real<int(int, char const*, int, char const*, unsigned)>("renameat2")(from_folder, from, to_folder,
                                                                                to, flags);
}

int mkdir(char const* path, mode_t mode) noexcept {
    if (of_save(path) && next_call(false) == Fate::fails) return -1;
    return real<int(char const*, mode_t)>("mkdir")(path, mode);
}

int unlink(char const* path) noexcept {
    if (of_save(path) && next_call(false) == Fate::fails) return -1;
    return real<int(char const*)>("unlink")(path);
}

}  // extern "C"
