#include "leak_check.h"
#include <stdlib.h>

// The leak sanitizer stops every thread of a process to look at its memory. In the child of an exit test the first thread
// has ended by then, and now and then it waits for that thread for good. So the tests' own process is looked at, whose
// sanitizer has read its options by now, and its children are not.
__attribute__((constructor)) static void leave_children_alone(void) {
    if (getenv("LSAN_OPTIONS")) setenv("LSAN_OPTIONS", "detect_leaks=0", 1);
}
