#pragma once

#include "plait/graph/source.hpp"

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace plait {

/// Visits a module: a struct that lists its fields, a range or optional of modules, or a parameter (anything
/// with a `variable`). Calls f(path, part) for every part that has a `variable` or a `path`; other fields are
/// settings.
template <class T, class F>
void walk(T& part, std::string const& path, F const& f) {
    if constexpr (
        requires { part.variable; } || requires { part.path; })
        f(path, part);
    if constexpr (HasFields<T>) {
        for_each_field(part, [&](std::string_view name, auto& field) {
            walk(field, path.empty() ? std::string(name) : path + "." + std::string(name), f);
        });
    } else if constexpr (requires {
                             part.begin();
                             part.end();
                         } &&
                         !std::is_convertible_v<T, std::string_view>) {
        int i = 0;
        for (auto& element : part) walk(element, (path.empty() ? "" : path + ".") + std::to_string(i++), f);
    } else if constexpr (requires {
                             part.has_value();
                             *part;
                         }) {
        if (part) walk(*part, path, f);
    }
}

/// Lists a module's variables in the order of the fields, a tied one once. Parameters and sub-modules that
/// have no path yet get the one they have here; with `rename` (what `state` does for a whole model) all do.
template <class Module>
std::vector<std::shared_ptr<Variable>> variables_of(Module& module, bool rename = false) {
    std::vector<std::shared_ptr<Variable>> variables;
    std::set<Variable const*> seen;
    walk(module, {}, [&](std::string const& at, auto& part) {
        if constexpr (requires { part.variable; }) {
            if (!seen.insert(part.variable.get()).second) return;
            if (rename || part.variable->path.empty()) part.variable->path = at;
            variables.push_back(part.variable);
        } else {
            if (rename || part.path.empty()) part.path = at;
        }
    });
    return variables;
}

}  // namespace plait
