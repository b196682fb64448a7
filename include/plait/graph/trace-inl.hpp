#pragma once

#include "plait/core/random.hpp"
#include "plait/graph/trace.hpp"

namespace plait {

PLAIT_INLINE Recorder& Recorder::current() {
    static thread_local Recorder recorder;
    return recorder;
}

PLAIT_INLINE Scope::Scope(std::string_view path, bool absolute) {
    auto& now = Recorder::current().origin.path;
    outer_ = now;
    if (absolute || now.empty()) now = path;
    else if (!path.empty()) now += "." + std::string(path);
}

PLAIT_INLINE void mark_output(Value value) {
    auto& r = Recorder::current();
    r.marks.push_back({r.origin.path.empty() ? "out" : r.origin.path + ".out", std::move(value)});
}

PLAIT_INLINE std::uint64_t next_random_site() {
    auto& r = Recorder::current();
    int ordinal = r.ordinals[r.origin.path]++;
    return mix(hash_name(r.origin.path) + static_cast<std::uint64_t>(ordinal));
}

}  // namespace plait
