#include "plait/train/progress.hpp"

#include "catch.hpp"
#include "scratch.hpp"

#include <stdlib.h>
#include <cmath>
#include <functional>

using namespace plait;

namespace {

ProgressRow sample(std::int64_t step) {
    return {.step = step,
            .loss = 3.2141,
            .grad_norm = 0.812,
            .tokens_per_second = 12345.4,
            .step_seconds = 0.5,
            .mfu = 0.412,
            .memory_bytes = 1395864371};
}

std::string output_of(bool terminal, std::function<void(std::FILE*, bool)> const& f) {
    std::FILE* out = std::tmpfile();
    f(out, terminal);
    std::string text(static_cast<std::size_t>(std::ftell(out)), '\0');
    std::rewind(out);
    CHECK(std::fread(text.data(), 1, text.size(), out) == text.size());
    std::fclose(out);
    return text;
}

}  // namespace

TEST_CASE("the console line") {
    CHECK(progress_line(sample(120), 500, 130) ==
          "step 120/500  loss 3.214  grad 0.81  12,345 tok/s  mfu 41.2%  1.3 GiB  eta 02:10");
    auto row = sample(1);
    row.mfu.reset();
    CHECK(progress_line(row, 2, 0) == "step 1/2  loss 3.214  grad 0.81  12,345 tok/s  1.3 GiB  eta 00:00");
}

TEST_CASE("sizes, counts and durations for people") {
    CHECK(bytes_text(0) == "0 B");
    CHECK(bytes_text(1023) == "1023 B");
    CHECK(bytes_text(1024) == "1.0 KiB");
    CHECK(bytes_text(1048575) == "1.0 MiB");
    CHECK(bytes_text(80.0 * 1024 * 1024 * 1024) == "80.0 GiB");
    CHECK(count_text(0) == "0.0");
    CHECK(count_text(7.46) == "7.5");
    CHECK(count_text(99.97) == "100");
    CHECK(count_text(999.4) == "999");
    CHECK(count_text(1000) == "1,000");
    CHECK(count_text(1234567.8) == "1,234,568");
    CHECK(count_text(-123456) == "-123,456");
    CHECK(count_text(NAN) == "-");
    CHECK(duration_text(0) == "00:00");
    CHECK(duration_text(59.6) == "01:00");
    CHECK(duration_text(3730) == "1:02:10");
    CHECK(duration_text(3 * 86400 + 4 * 3600 + 5 * 60 + 6) == "3d 04:05:06");
    CHECK(duration_text(INFINITY) == "-");
    CHECK(duration_text(-5) == "00:00");
}

TEST_CASE("without a terminal: plain lines at the first step, every tenth and the last") {
    auto text = output_of(false, [](std::FILE* out, bool terminal) {
        Progress p(out, 25, terminal);
        p.note("hello");
        for (int s = 1; s <= 25; ++s) p.step(sample(s));
    });
    CHECK(std::count(text.begin(), text.end(), '\n') == 5);
    CHECK(text.find_first_of("\r\033") == std::string::npos);
    CHECK(text.starts_with("hello\nstep 1/25 "));
    CHECK(contains(text, "step 10/25 "));
    CHECK(contains(text, "step 20/25  loss 3.214  grad 0.81  12,345 tok/s  mfu 41.2%  1.3 GiB  eta 00:03\n"));
    CHECK(contains(text, "step 25/25 "));
    CHECK(output_of(false, [](std::FILE* out, bool) {
              Progress p(out, 3);  // a file is no terminal
              p.step(sample(1));
          }).find('\r') == std::string::npos);
}

TEST_CASE("on a terminal: a bar that is erased before every line, in colour unless NO_COLOR is set") {
    auto run = [](std::FILE* out, bool terminal) {
        Progress p(out, 4, terminal);
        for (int s = 1; s <= 4; ++s) p.step(sample(s));
    };
    ::unsetenv("NO_COLOR");
    auto text = output_of(true, run);
    CHECK(contains(text, "[#####"));
    CHECK(contains(text, "\033[32m"));
    CHECK(contains(text, "\r\033[Kstep 4/4"));
    CHECK(text.ends_with("\n"));
    ::setenv("NO_COLOR", "1", 1);
    auto plain = output_of(true, run);
    ::unsetenv("NO_COLOR");
    CHECK(contains(plain, "[#####"));
    CHECK_FALSE(contains(plain, "\033[32m"));
}

TEST_CASE("a bar that is left in the middle is erased") {
    auto text = output_of(true, [](std::FILE* out, bool terminal) {
        Progress p(out, 100, terminal);
        p.step(sample(1));
    });
    CHECK(text.ends_with("\r\033[K"));
}
