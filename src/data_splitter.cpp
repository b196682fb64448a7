#include "plait/data/splitter.hpp"

#include "plait/core/check.hpp"
#include "plait/data/utf8.hpp"

#if defined(PLAIT_HAS_PCRE2)
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

namespace plait {
namespace {

/// PCRE2's \s holds U+180E, which Unicode took out of White_Space.
std::string with_unicode_spaces(std::string_view pattern) {
    constexpr std::string_view spaces =
        R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
    std::string out;
    bool in_class = false;
    for (std::size_t i = 0; i < pattern.size(); ++i) {
        char const c = pattern[i];
        if (c == '\\' && i + 1 < pattern.size()) {
            char const escaped = pattern[++i];
            if (escaped == 's') out += in_class ? std::string(spaces) : "[" + std::string(spaces) + "]";
            else if (escaped == 'S' && !in_class) out += "[^" + std::string(spaces) + "]";
            else (out += c) += escaped;
            continue;
        }
        if (c == '[') in_class = true;
        if (c == ']') in_class = false;
        out += c;
    }
    return out;
}

/// What matching needs of a thread.
struct Scratch {
    pcre2_match_context* context = pcre2_match_context_create(nullptr);
    pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr);
    pcre2_match_data* match = pcre2_match_data_create(1, nullptr);

    Scratch() {
        check(context && stack && match, "no memory left for PCRE2");
        pcre2_jit_stack_assign(context, nullptr, stack);
        pcre2_set_match_limit(context, ~std::uint32_t{0});
    }
    ~Scratch() {
        pcre2_match_data_free(match);
        pcre2_jit_stack_free(stack);
        pcre2_match_context_free(context);
    }
    Scratch(Scratch const&) = delete;
    Scratch& operator=(Scratch const&) = delete;
};

std::string message_of(int code) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(code, text, sizeof text);
    return reinterpret_cast<char const*>(text);
}

}  // namespace

struct Splitter::Code {
    pcre2_code* code = nullptr;
    bool compiled = false;  // to machine code
    ~Code() { pcre2_code_free(code); }
};

Splitter::Splitter(std::string pattern) : pattern_(std::move(pattern)), code_(std::make_unique<Code>()) {
    int error = 0;
    PCRE2_SIZE place = 0;
    auto const text = with_unicode_spaces(pattern_);
    code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), PCRE2_UTF | PCRE2_UCP,
                                &error, &place, nullptr);
    check<UsageError>(code_->code != nullptr, "the split pattern {} cannot be read: {}", pattern_,
                      message_of(error));
    code_->compiled = pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE) == 0;
}

bool Splitter::available() { return true; }

void Splitter::split(std::string_view text, Take take, void* f) const {
    thread_local Scratch scratch;
    auto match = code_->compiled ? pcre2_jit_match : pcre2_match;
    auto const options = code_->compiled ? 0u : std::uint32_t{PCRE2_NO_UTF_CHECK};
    while (!text.empty()) {
        auto const valid = text.substr(0, valid_utf8(text));
        auto const* subject = reinterpret_cast<PCRE2_SPTR>(valid.data());
        auto const* range = pcre2_get_ovector_pointer(scratch.match);
        std::size_t at = 0;
        while (at < valid.size()) {
            int const found =
                match(code_->code, subject, valid.size(), at, options, scratch.match, scratch.context);
            if (found == PCRE2_ERROR_NOMATCH) break;
            check(found >= 0, "the split pattern fails: {}", message_of(found));
            auto const begin = range[0], end = range[1];
            check<UsageError>(end > at && begin >= at,
                              "the split pattern {} matches nothing: it must take a character", pattern_);
            if (begin > at) take(f, valid.substr(at, begin - at));
            if (end > begin) take(f, valid.substr(begin, end - begin));
            at = end;
        }
        if (at < valid.size()) take(f, valid.substr(at));
        text.remove_prefix(valid.size());
        if (!text.empty()) {
            take(f, text.substr(0, 1));
            text.remove_prefix(1);
        }
    }
}

#else

namespace plait {

struct Splitter::Code {};

Splitter::Splitter(std::string pattern) : pattern_(std::move(pattern)) {
    fail<UsageError>(
        "this build has no PCRE2, which splits text for the tokenizer: install libpcre2-dev and build again");
}

bool Splitter::available() { return false; }

void Splitter::split(std::string_view, Take, void*) const {}

#endif

Splitter::~Splitter() = default;
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;

}  // namespace plait
