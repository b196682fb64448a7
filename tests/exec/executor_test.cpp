#include "plait/exec/executor.hpp"

#include "catch.hpp"
#include "plait/ops/elementwise.hpp"
#include "plait/ops/reduce.hpp"
#include "plait/train/compile.hpp"

using namespace plait;

namespace {

/// log(x) - log(x) over a batch column x, in a module called `part`.
Step nan_of_zero() {
    auto memory = std::make_shared<State>(cpu_backend(1));
    return compile(Plan(), memory, {{"x", {f32, {3}}}}, [](Batch const& b) -> Row {
        Scope const scope("part");
        auto y = log(b["x"]);
        return {{"sum", sum(y - y)}};
    });
}

}  // namespace

TEST_CASE("a step whose values are looked at names the op that makes a NaN") {
    auto step = nan_of_zero();
    std::map<std::string, Array> const good{{"x", Array({3}, std::vector<float>{1, 2, 3})}},
        bad{{"x", Array({3}, std::vector<float>{1, 0, 3})}};
    CHECK(std::isnan(step(bad)[0].second.item()));
    step.check_values(true);
    CHECK(step(good)[0].second.item() == 0);
    try {
        step(bad);
        FAIL("the NaN was not seen");
    } catch (Error const& e) {
        CHECK_THAT(e.what(), ContainsSubstring("binary in part gives a NaN, at element 1"));
    }
    step.check_values(false);
    CHECK(std::isnan(step(bad)[0].second.item()));
}
