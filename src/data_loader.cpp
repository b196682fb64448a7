#include "plait/data/loader-inl.hpp"
