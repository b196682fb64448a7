#include "plait/data/text-inl.hpp"
