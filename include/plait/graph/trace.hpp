#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/graph.hpp"

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait {

struct Variable;

/// What a thread records with: the module path and phase that new nodes get. Every thread has its own;
/// `Scope` and `Trace` set and restore it.
struct Recorder {
    Origin origin;
    std::map<std::string, int> ordinals;  // random sites handed out per module path
    std::vector<Mark> marks;
    std::vector<Variable*> assigned;  // variables that got a new value
    Value random_key;                 // what random ops of this recording read, once one has asked for it
    bool training = true;             // false: dropout records nothing

    static Recorder& current();
};

/// Adds a name to the module path of the nodes recorded during its life.
class Scope {
  public:
    /// `path` is relative to the current one unless `absolute`.
    explicit Scope(std::string_view path, bool absolute = false);
    ~Scope() { Recorder::current().origin.path = std::move(outer_); }
    Scope(Scope const&) = delete;
    Scope& operator=(Scope const&) = delete;

  private:
    std::string outer_;
};

/// Gives the nodes recorded during its life the origin of another node: what a pass does when it rewrites
/// one.
class OriginScope {
  public:
    explicit OriginScope(Origin origin)
        : outer_(std::exchange(Recorder::current().origin, std::move(origin))) {}
    ~OriginScope() { Recorder::current().origin = std::move(outer_); }
    OriginScope(OriginScope const&) = delete;
    OriginScope& operator=(OriginScope const&) = delete;

  private:
    Origin outer_;
};

/// The recording of one program: random sites count from zero, paths from the root.
class Trace {
  public:
    Trace() : outer_(std::exchange(Recorder::current(), Recorder())) {}
    ~Trace() { Recorder::current() = std::move(outer_); }
    Trace(Trace const&) = delete;
    Trace& operator=(Trace const&) = delete;

  private:
    Recorder outer_;
};

/// Names `value` for plan lines.
inline void mark(std::string name, Value value) {
    Recorder::current().marks.push_back({std::move(name), std::move(value)});
}
/// Names `value` "<module path>.out" for plan lines, where the path is the current one.
void mark_output(Value value);

/// A number for a random op: the hash of the module path and of how many such ops the path had before.
std::uint64_t next_random_site();

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/graph/graph-inl.hpp"
#include "plait/graph/trace-inl.hpp"
#endif
