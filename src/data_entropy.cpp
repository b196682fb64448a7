#include "plait/data/entropy-inl.hpp"
