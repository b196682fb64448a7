#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

namespace plait {

/// What GPT-4's tokenizer (cl100k) splits text by: contractions, words with the sign before them, numbers of
/// up to three digits, runs of other signs, line ends, white space.
inline constexpr std::string_view gpt4_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
/// The same of GPT-2.
inline constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Cuts text into the pieces within which tokens merge: the matches of a regular expression, and what lies
/// between them. `\s` is Unicode's White_Space, as it is in the libraries that the patterns come from.
/// Characters that are younger than the Unicode version of PCRE2 count as neither letters nor numbers.
/// Works where Plait was built with PCRE2.
class Splitter {
  public:
    /// Throws UsageError for a pattern that PCRE2 does not take, and where PCRE2 was not built in.
    explicit Splitter(std::string pattern);
    ~Splitter();
    Splitter(Splitter&&) noexcept;
    Splitter& operator=(Splitter&&) noexcept;

    std::string const& pattern() const { return pattern_; }

    /// Calls f(piece) for the pieces of `text` in order; together they are the text. Bytes that are not
    /// UTF-8 are pieces of one byte. Threads may call it at one time.
    template <class F>
    void for_each(std::string_view text, F&& f) const {
        using Function = std::remove_reference_t<F>;
        split(
            text, [](void* g, std::string_view piece) { (*static_cast<Function*>(g))(piece); },
            const_cast<void*>(static_cast<void const*>(std::addressof(f))));
    }

    /// Whether this build can split at all.
    static bool available();

  private:
    struct Code;
    using Take = void (*)(void* f, std::string_view piece);
    void split(std::string_view text, Take take, void* f) const;

    std::string pattern_;
    std::unique_ptr<Code> code_;
};

}  // namespace plait
