// Nothing to call: what is in leak_check.c runs when the tests are loaded.
#pragma once
