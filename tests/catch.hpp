#pragma once

// The same words for Catch2 v2 (Debian 12) and v3. SKIP("why") ends a case; CTest then shows it as skipped.
#if __has_include(<catch2/catch_test_macros.hpp>)

#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#include <catch2/matchers/catch_matchers_all.hpp>

using Catch::Approx;

#else

#include <catch2/catch.hpp>
#include <sstream>
#include <string>

namespace Catch::Matchers {
inline auto ContainsSubstring(std::string const& text) { return Contains(text); }
}  // namespace Catch::Matchers

namespace tests {
/// Notes the skip for main's exit code and leaves the case.
[[noreturn]] void skip(std::string const& why);
}  // namespace tests

#define SKIP(...)                  \
    do {                           \
        std::ostringstream why_;   \
        why_ << __VA_ARGS__;       \
        ::tests::skip(why_.str()); \
    } while (false)

#endif

using Catch::Matchers::ContainsSubstring;
