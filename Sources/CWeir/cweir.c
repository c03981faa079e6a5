#define _GNU_SOURCE
#include "cweir.h"
