#pragma once

#include "corpus.hpp"

namespace plait::tools {

/// Whether data.path names tokens. Throws UsageError where it names text besides.
bool names_tokens(DataConfig const& data);

/// The corpus of a run on tokens.
Corpus load_tokens(Config const& config);

}  // namespace plait::tools
