/* glibc's cnd_timedwait, which Kafka's client waits by, waits inside glibc, where libfaketime does
 * not see it: by a clock that is two hours ahead, a wait of a second would take two hours. This one
 * waits by pthread_cond_timedwait, which libfaketime sees. In glibc cnd_t and mtx_t are other names
 * for the memory of pthread_cond_t and pthread_mutex_t. To be preloaded before libfaketime. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex,
                  const struct timespec *restrict deadline) {
    switch (pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, deadline)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
