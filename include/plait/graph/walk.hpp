#pragma once

#include "plait/graph/source.hpp"

#include <memory>
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

/// Gives every parameter and sub-module its path and lists the variables in the order of the fields.
template <class Module>
std::vector<std::shared_ptr<Variable>> variables_of(Module& module, std::string const& path = {}) {
    std::vector<std::shared_ptr<Variable>> variables;
    walk(module, path, [&](std::string const& at, auto& part) {
        if constexpr (requires { part.variable; }) {
            if (part.variable->path.empty()) part.variable->path = at;
            // A tied parameter is one variable under the first of its paths.
            if (part.variable->path == at) variables.push_back(part.variable);
        } else {
            part.path = at;
        }
    });
    return variables;
}

}  // namespace plait
