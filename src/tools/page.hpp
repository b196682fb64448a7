#pragma once

#include <string>
#include <string_view>

namespace plait::tools {

/// A whole HTML page around `body`: no file but this one is read to show it. It follows the reader's choice
/// of light or dark, and is well-formed XML too.
std::string page_html(std::string_view title, std::string_view body);

}  // namespace plait::tools
