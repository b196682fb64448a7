#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace plait {

/// A failure while running: the command ends with exit code 1.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Bad arguments, configuration or input, found before any work is lost: exit code 2.
struct UsageError : Error {
    using Error::Error;
};

/// Shapes or dtypes that an op cannot take. The message names the op, the shapes and the fix.
struct ShapeError : UsageError {
    using UsageError::UsageError;
};

/// Throws `E` with a formatted message of one line: what, where, and the fix.
template <class E = Error, class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
    throw E(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws `E` unless `ok`.
template <class E = Error, class... Args>
void check(bool ok, fmt::format_string<Args...> format, Args&&... args) {
    if (!ok) [[unlikely]]
        throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace plait
