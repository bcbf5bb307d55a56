/* The threads of the networks' own OpenMP.
 *
 * A pool of our own would wait for the same cores as torch's, whose threads spin for a while after each of their loops.
 * So the one function that compilers call for `#pragma omp parallel` is taken from the library that torch has loaded.
 */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "conv.h"

typedef void parallel_function(void (*work)(void *), void *argument, unsigned threads, unsigned flags);

static parallel_function *parallel;

int conv_use_threads_of(const char *library) {
    void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL)
        return 0;
    void *found = dlsym(handle, "GOMP_parallel"); /* of the library or of what it is linked with */
    if (found != NULL)
        *(void **)&parallel = found;
    return found != NULL;
}

void conv_on_threads(void (*work)(void *), void *argument, int threads) {
    if (threads > 1 && parallel != NULL)
        parallel(work, argument, (unsigned)threads, 0);
    else
        work(argument);
}
