#pragma once

#include <string>
#include <string_view>

namespace plait::tools {

/// Bytes of a text as it grows that are fit to be shown: no half of a UTF-8 character, and nothing that may
/// yet turn out to be the string at which the text ends.
class TextStream {
  public:
    /// `stop` ends the text and is no part of it; empty: nothing does.
    explicit TextStream(std::string stop = "") : stop_(std::move(stop)) {}

    /// Takes what has been made next. False once the text has ended; then nothing is to be added.
    bool add(std::string_view piece);
    /// What may be shown now and has not been.
    std::string take();
    /// The same at the end of the text, when nothing more will come.
    std::string take_rest();

    std::string const& text() const { return text_; }

  private:
    std::string take_until(std::size_t end);

    std::string stop_, text_;
    std::size_t shown_ = 0;
    bool ended_ = false;
};

/// Bytes at the end of `text` that begin a UTF-8 character without finishing it: 0 to 3. Bytes that can begin
/// none are not waited for.
std::size_t unfinished_bytes(std::string_view text);

}  // namespace plait::tools
