#include "plait/data/bpe-inl.hpp"
