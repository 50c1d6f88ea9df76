/*
 * Copyright (C) nginx-ims contributors
 */

#include <stdlib.h>
#include <sys/random.h>

#include "flow/ims_siphash.h"
#include "flow/ims_trans.h"


#define IMS_TRANS_BLOCK      16           /* parts hashed together */
#define IMS_TRANS_CHUNK      64           /* records a slab chunk */
#define IMS_TRANS_NO_HEAP    UINT32_MAX
#define IMS_TRANS_SPARE_LOOK 64           /* of the heap, for a spare one */

#define IMS_TRANS_BUF_MIN    512          /* size classes: 512 << class */
#define IMS_TRANS_CLASSES    9            /* up to 128 KiB */

#define IMS_TRANS_FOLD_MAX   256          /* longest text that is folded */


/* a flow that has records */
struct ims_trans_flow_s {
    ims_trans_flow_t   *next;             /* of the bucket, or free */
    ims_trans_t        *first;
    ims_trans_t        *last;
    uint32_t            slot;
    uint32_t            generation;
    uint32_t            count;
};


/* slab chunks, of records and of flows */
typedef struct ims_trans_chunk_s  ims_trans_chunk_t;

struct ims_trans_chunk_s {
    ims_trans_chunk_t  *next;
    uint64_t            items[];
};


struct ims_trans_pool_s {
    ims_trans_conf_t    conf;
    ims_siphash_key_t   key[2];

    uint32_t            mask;
    ims_trans_t       **by_request;
    ims_trans_t       **by_branch;
    ims_trans_flow_t  **by_flow;

    ims_trans_t       **heap;
    uint32_t            heap_len;

    ims_trans_t        *free;             /* by req_next */
    ims_trans_flow_t   *free_flows;
    ims_trans_chunk_t  *chunks;

    ims_trans_buf_t    *free_bufs[IMS_TRANS_CLASSES];

    ims_trans_stat_t    stat;
};


/* -- hashes -------------------------------------------------------------- */

/*
 * 128 bits of a keyed hash are as good as the parts themselves.  Each part is
 * hashed by itself and then the list of hashes, in blocks that begin with the
 * sum of the block before: nothing is copied, parts cannot flow into each
 * other, and there may be any number of them.
 */

void
ims_trans_hash(const ims_trans_pool_t *p, const ims_str_t *parts,
    unsigned nparts, uint8_t out[IMS_TRANS_HASH_LEN])
{
    uint64_t  sum[3 + 2 * IMS_TRANS_BLOCK], h[2];
    unsigned  i, n;

    h[0] = 0;
    h[1] = 0;
    i = 0;

    do {
        n = 0;
        sum[n++] = h[0];
        sum[n++] = h[1];
        sum[n++] = nparts;

        for ( /* void */ ; i < nparts && n < 3 + 2 * IMS_TRANS_BLOCK; i++) {
            sum[n++] = ims_siphash(&p->key[0], parts[i].p, parts[i].n);
            sum[n++] = ims_siphash(&p->key[1], parts[i].p, parts[i].n);
        }

        h[0] = ims_siphash(&p->key[0], sum, n * sizeof(sum[0]));
        h[1] = ims_siphash(&p->key[1], sum, n * sizeof(sum[0]));

    } while (i < nparts);

    memcpy(out, h, sizeof(h));
}


/* branches and hosts are the same in any case (RFC 3261 7.3.1, 19.1.4) */

static ims_str_t
ims_trans_fold(ims_str_t s, uint8_t *buf)
{
    size_t  i;

    if (s.n > IMS_TRANS_FOLD_MAX) {
        return s;
    }

    for (i = 0; i < s.n; i++) {
        buf[i] = ims_lower(s.p[i]);
    }

    return ims_str_set(buf, s.n);
}


/* ACK and CANCEL belong to the INVITE (RFC 3261 17.2.3, 9.2) */

static ims_str_t
ims_trans_method(ims_str_t method)
{
    if (ims_str_eq(method, IMS_STR("ACK"))
        || ims_str_eq(method, IMS_STR("CANCEL")))
    {
        return IMS_STR("INVITE");
    }

    return method;
}


static void
ims_trans_request_key(const ims_trans_pool_t *p, const ims_trans_key_t *key,
    uint8_t *out)
{
    uint8_t    branch[IMS_TRANS_FOLD_MAX], host[IMS_TRANS_FOLD_MAX];
    uint32_t   flow[3];
    ims_str_t  parts[4];

    flow[0] = key->slot;
    flow[1] = key->generation;
    flow[2] = key->direction;

    parts[0] = ims_str_set(flow, sizeof(flow));
    parts[1] = ims_trans_fold(key->branch, branch);
    parts[2] = ims_trans_fold(key->sent_by, host);
    parts[3] = ims_trans_method(key->method);

    ims_trans_hash(p, parts, 4, out);
}


static void
ims_trans_response_key(const ims_trans_pool_t *p, ims_str_t branch,
    ims_str_t method, uint8_t *out)
{
    uint8_t    buf[IMS_TRANS_FOLD_MAX];
    ims_str_t  parts[2];

    parts[0] = ims_trans_fold(branch, buf);
    parts[1] = ims_trans_method(method);

    ims_trans_hash(p, parts, 2, out);
}


static uint32_t
ims_trans_bucket(const ims_trans_pool_t *p, const uint8_t *key)
{
    uint32_t  h;

    memcpy(&h, key, sizeof(h));

    return h & p->mask;
}


/* -- the pool ------------------------------------------------------------ */

ims_trans_pool_t *
ims_trans_pool_create(const ims_trans_conf_t *conf)
{
    uint32_t           n;
    ims_trans_pool_t  *p;

    p = calloc(1, sizeof(ims_trans_pool_t));
    if (p == NULL) {
        return NULL;
    }

    p->conf = *conf;

    for (n = 64; n < conf->max && n < 1u << 20; n *= 2) { /* void */ }

    p->mask = n - 1;
    p->by_request = calloc(n, sizeof(ims_trans_t *));
    p->by_branch = calloc(n, sizeof(ims_trans_t *));
    p->by_flow = calloc(n, sizeof(ims_trans_flow_t *));
    p->heap = calloc(conf->max, sizeof(ims_trans_t *));

    if (p->by_request == NULL || p->by_branch == NULL || p->by_flow == NULL
        || p->heap == NULL
        || getrandom(p->key, sizeof(p->key), 0) != (ssize_t) sizeof(p->key))
    {
        ims_trans_pool_destroy(p);
        return NULL;
    }

    return p;
}


static void
ims_trans_free_buffers(ims_trans_pool_t *p)
{
    unsigned          i;
    ims_trans_buf_t  *b;

    for (i = 0; i < IMS_TRANS_CLASSES; i++) {
        while ((b = p->free_bufs[i]) != NULL) {
            p->free_bufs[i] = b->next;
            free(b);
        }
    }
}


void
ims_trans_pool_destroy(ims_trans_pool_t *p)
{
    uint32_t            i;
    ims_trans_chunk_t  *c;

    /* frees the records' buffers too */

    for (i = 0; p->by_request != NULL && i <= p->mask; i++) {
        while (p->by_request[i] != NULL) {
            ims_trans_free(p, p->by_request[i]);
        }
    }

    ims_trans_free_buffers(p);

    while ((c = p->chunks) != NULL) {
        p->chunks = c->next;
        free(c);
    }

    free(p->by_request);
    free(p->by_branch);
    free(p->by_flow);
    free(p->heap);
    free(p);
}


void
ims_trans_stat(const ims_trans_pool_t *p, ims_trans_stat_t *s)
{
    *s = p->stat;
}


/* -- slabs --------------------------------------------------------------- */

static void *
ims_trans_chunk(ims_trans_pool_t *p, size_t size)
{
    ims_trans_chunk_t  *c;

    c = malloc(sizeof(ims_trans_chunk_t) + IMS_TRANS_CHUNK * size);
    if (c == NULL) {
        return NULL;
    }

    c->next = p->chunks;
    p->chunks = c;
    p->stat.mallocs++;

    return c->items;
}


static ims_trans_t *
ims_trans_take(ims_trans_pool_t *p)
{
    unsigned      i;
    ims_trans_t  *t;

    if (p->free == NULL) {
        t = ims_trans_chunk(p, sizeof(ims_trans_t));
        if (t == NULL) {
            return NULL;
        }

        for (i = 0; i < IMS_TRANS_CHUNK; i++) {
            t[i].req_next = p->free;
            p->free = &t[i];
        }

        p->stat.slab += IMS_TRANS_CHUNK;
    }

    t = p->free;
    p->free = t->req_next;

    memset(t, 0, sizeof(ims_trans_t));

    return t;
}


static ims_trans_flow_t *
ims_trans_take_flow(ims_trans_pool_t *p)
{
    unsigned           i;
    ims_trans_flow_t  *f;

    if (p->free_flows == NULL) {
        f = ims_trans_chunk(p, sizeof(ims_trans_flow_t));
        if (f == NULL) {
            return NULL;
        }

        for (i = 0; i < IMS_TRANS_CHUNK; i++) {
            f[i].next = p->free_flows;
            p->free_flows = &f[i];
        }
    }

    f = p->free_flows;
    p->free_flows = f->next;

    memset(f, 0, sizeof(ims_trans_flow_t));

    return f;
}


/* -- flows --------------------------------------------------------------- */

static ims_trans_flow_t **
ims_trans_flow_bucket(ims_trans_pool_t *p, uint32_t slot)
{
    /* slots are our own numbers: nobody can choose them to collide */

    return &p->by_flow[slot & p->mask];
}


static ims_trans_flow_t *
ims_trans_flow_find(ims_trans_pool_t *p, uint32_t slot, uint32_t generation)
{
    ims_trans_flow_t  *f;

    for (f = *ims_trans_flow_bucket(p, slot); f != NULL; f = f->next) {
        if (f->slot == slot && f->generation == generation) {
            return f;
        }
    }

    return NULL;
}


static ims_trans_flow_t *
ims_trans_flow_get(ims_trans_pool_t *p, uint32_t slot, uint32_t generation)
{
    ims_trans_flow_t  *f, **b;

    f = ims_trans_flow_find(p, slot, generation);
    if (f != NULL) {
        return f;
    }

    f = ims_trans_take_flow(p);
    if (f == NULL) {
        return NULL;
    }

    b = ims_trans_flow_bucket(p, slot);

    f->slot = slot;
    f->generation = generation;
    f->next = *b;
    *b = f;

    p->stat.flows++;

    return f;
}


static void
ims_trans_flow_put(ims_trans_pool_t *p, ims_trans_flow_t *f)
{
    ims_trans_flow_t  **b;

    for (b = ims_trans_flow_bucket(p, f->slot); *b != f; b = &(*b)->next) {
        /* void */
    }

    *b = f->next;
    f->next = p->free_flows;
    p->free_flows = f;

    p->stat.flows--;
}


static void
ims_trans_flow_add(ims_trans_flow_t *f, ims_trans_t *t)
{
    t->flow = f;
    t->flow_prev = f->last;

    if (f->last != NULL) {
        f->last->flow_next = t;

    } else {
        f->first = t;
    }

    f->last = t;
    f->count++;
}


static void
ims_trans_flow_remove(ims_trans_pool_t *p, ims_trans_t *t)
{
    ims_trans_flow_t  *f;

    f = t->flow;

    if (t->flow_prev != NULL) {
        t->flow_prev->flow_next = t->flow_next;

    } else {
        f->first = t->flow_next;
    }

    if (t->flow_next != NULL) {
        t->flow_next->flow_prev = t->flow_prev;

    } else {
        f->last = t->flow_prev;
    }

    if (--f->count == 0) {
        ims_trans_flow_put(p, f);
    }
}


ims_trans_t *
ims_trans_flow_first(ims_trans_pool_t *p, uint32_t slot, uint32_t generation)
{
    ims_trans_flow_t  *f;

    f = ims_trans_flow_find(p, slot, generation);

    return f != NULL ? f->first : NULL;
}


ims_trans_t *
ims_trans_flow_next(const ims_trans_t *t)
{
    return t->flow_next;
}


uint32_t
ims_trans_flow_count(ims_trans_pool_t *p, uint32_t slot, uint32_t generation)
{
    ims_trans_flow_t  *f;

    f = ims_trans_flow_find(p, slot, generation);

    return f != NULL ? f->count : 0;
}


/* -- records ------------------------------------------------------------- */

static ims_trans_t *
ims_trans_by_request(ims_trans_pool_t *p, const uint8_t *key)
{
    ims_trans_t  *t;

    t = p->by_request[ims_trans_bucket(p, key)];

    while (t != NULL && memcmp(t->req_key, key, IMS_TRANS_HASH_LEN) != 0) {
        t = t->req_next;
    }

    return t;
}


static bool
ims_trans_is_spare(const ims_trans_t *t)
{
    if ((t->invite && t->answered) || t->resend_at != 0) {
        return false;
    }

    return t->state == IMS_TRANS_COMPLETED || t->state == IMS_TRANS_CONFIRMED;
}


ims_trans_t *
ims_trans_spare(ims_trans_pool_t *p, const ims_trans_key_t *key,
    ims_trans_rc_t limit)
{
    uint32_t      i;
    ims_trans_t  *t;

    if (limit == IMS_TRANS_FLOW_LIMIT) {

        t = ims_trans_flow_first(p, key->slot, key->generation);

        while (t != NULL && !ims_trans_is_spare(t)) {
            t = ims_trans_flow_next(t);
        }

        return t;
    }

    /* those next to their end are near the heap's top */

    for (i = 0; i < p->heap_len && i < IMS_TRANS_SPARE_LOOK; i++) {
        if (ims_trans_is_spare(p->heap[i])) {
            return p->heap[i];
        }
    }

    return NULL;
}


ims_trans_t *
ims_trans_find_request(ims_trans_pool_t *p, const ims_trans_key_t *key)
{
    uint8_t  k[IMS_TRANS_HASH_LEN];

    ims_trans_request_key(p, key, k);

    return ims_trans_by_request(p, k);
}


static ims_trans_rc_t
ims_trans_limit(ims_trans_pool_t *p, const ims_trans_key_t *key)
{
    if (p->stat.records >= p->conf.max) {
        p->stat.refused++;
        return IMS_TRANS_WORKER_LIMIT;
    }

    if (ims_trans_flow_count(p, key->slot, key->generation)
        >= p->conf.max_flow)
    {
        p->stat.refused++;
        return IMS_TRANS_FLOW_LIMIT;
    }

    return IMS_TRANS_OK;
}


ims_trans_rc_t
ims_trans_new(ims_trans_pool_t *p, const ims_trans_key_t *key, ims_trans_t **t)
{
    uint8_t            k[IMS_TRANS_HASH_LEN];
    ims_trans_t       *n, **b;
    ims_trans_rc_t     rc;
    ims_trans_flow_t  *f;

    ims_trans_request_key(p, key, k);

    *t = ims_trans_by_request(p, k);
    if (*t != NULL) {
        return IMS_TRANS_EXISTS;
    }

    rc = ims_trans_limit(p, key);
    if (rc != IMS_TRANS_OK) {
        return rc;
    }

    n = ims_trans_take(p);
    if (n == NULL) {
        return IMS_TRANS_NOMEM;
    }

    f = ims_trans_flow_get(p, key->slot, key->generation);
    if (f == NULL) {
        n->req_next = p->free;
        p->free = n;
        return IMS_TRANS_NOMEM;
    }

    n->in_use = 1;
    n->heap_pos = IMS_TRANS_NO_HEAP;
    n->slot = key->slot;
    n->generation = key->generation;
    n->direction = key->direction;
    memcpy(n->req_key, k, sizeof(k));

    b = &p->by_request[ims_trans_bucket(p, k)];
    n->req_next = *b;
    *b = n;

    ims_trans_flow_add(f, n);

    p->stat.records++;
    p->stat.created++;
    *t = n;

    return IMS_TRANS_OK;
}


static void
ims_trans_clear_branch(ims_trans_pool_t *p, ims_trans_t *t)
{
    ims_trans_t  **b;

    if (!t->has_branch) {
        return;
    }

    b = &p->by_branch[ims_trans_bucket(p, t->rsp_key)];

    while (*b != t) {
        b = &(*b)->rsp_next;
    }

    *b = t->rsp_next;
    t->has_branch = 0;
}


void
ims_trans_set_branch(ims_trans_pool_t *p, ims_trans_t *t, ims_str_t branch,
    ims_str_t method)
{
    ims_trans_t  **b;

    ims_trans_clear_branch(p, t);
    ims_trans_response_key(p, branch, method, t->rsp_key);

    b = &p->by_branch[ims_trans_bucket(p, t->rsp_key)];
    t->rsp_next = *b;
    *b = t;

    t->has_branch = 1;
}


ims_trans_t *
ims_trans_find_response(ims_trans_pool_t *p, ims_str_t branch,
    ims_str_t method)
{
    uint8_t       k[IMS_TRANS_HASH_LEN];
    ims_trans_t  *t;

    ims_trans_response_key(p, branch, method, k);

    t = p->by_branch[ims_trans_bucket(p, k)];

    while (t != NULL && memcmp(t->rsp_key, k, IMS_TRANS_HASH_LEN) != 0) {
        t = t->rsp_next;
    }

    return t;
}


void
ims_trans_free(ims_trans_pool_t *p, ims_trans_t *t)
{
    ims_trans_t  **b;

    if (!t->in_use) {
        return;
    }

    b = &p->by_request[ims_trans_bucket(p, t->req_key)];

    while (*b != t) {
        b = &(*b)->req_next;
    }

    *b = t->req_next;

    ims_trans_clear_branch(p, t);
    ims_trans_flow_remove(p, t);
    ims_trans_deadline(p, t, 0);
    ims_trans_drop(p, &t->request);
    ims_trans_drop(p, &t->response);
    ims_trans_drop(p, &t->reply);

    t->in_use = 0;
    t->req_next = p->free;
    p->free = t;

    p->stat.records--;
}


/* -- deadlines: a binary heap -------------------------------------------- */

static void
ims_trans_heap_set(ims_trans_pool_t *p, uint32_t i, ims_trans_t *t)
{
    p->heap[i] = t;
    t->heap_pos = i;
}


static void
ims_trans_heap_up(ims_trans_pool_t *p, uint32_t i, ims_trans_t *t)
{
    uint32_t  up;

    while (i > 0) {
        up = (i - 1) / 2;

        if (p->heap[up]->deadline <= t->deadline) {
            break;
        }

        ims_trans_heap_set(p, i, p->heap[up]);
        i = up;
    }

    ims_trans_heap_set(p, i, t);
}


static void
ims_trans_heap_down(ims_trans_pool_t *p, uint32_t i, ims_trans_t *t)
{
    uint32_t  down;

    while ((down = 2 * i + 1) < p->heap_len) {

        if (down + 1 < p->heap_len
            && p->heap[down + 1]->deadline < p->heap[down]->deadline)
        {
            down++;
        }

        if (t->deadline <= p->heap[down]->deadline) {
            break;
        }

        ims_trans_heap_set(p, i, p->heap[down]);
        i = down;
    }

    ims_trans_heap_set(p, i, t);
}


/* t's deadline has changed, or t is new at i */

static void
ims_trans_heap_fix(ims_trans_pool_t *p, uint32_t i, ims_trans_t *t)
{
    if (i > 0 && p->heap[(i - 1) / 2]->deadline > t->deadline) {
        ims_trans_heap_up(p, i, t);
        return;
    }

    ims_trans_heap_down(p, i, t);
}


static void
ims_trans_heap_remove(ims_trans_pool_t *p, ims_trans_t *t)
{
    uint32_t      i;
    ims_trans_t  *last;

    i = t->heap_pos;
    last = p->heap[--p->heap_len];

    t->heap_pos = IMS_TRANS_NO_HEAP;

    if (last != t) {
        ims_trans_heap_fix(p, i, last);
    }
}


void
ims_trans_deadline(ims_trans_pool_t *p, ims_trans_t *t, uint64_t at)
{
    bool  queued;

    queued = t->heap_pos != IMS_TRANS_NO_HEAP;
    t->deadline = at;

    if (at == 0) {

        if (queued) {
            ims_trans_heap_remove(p, t);
        }

        return;
    }

    /* the heap has room for every record */

    ims_trans_heap_fix(p, queued ? t->heap_pos : p->heap_len++, t);
}


uint64_t
ims_trans_next_deadline(const ims_trans_pool_t *p)
{
    return p->heap_len ? p->heap[0]->deadline : 0;
}


uint32_t
ims_trans_expire(ims_trans_pool_t *p, uint64_t now, ims_trans_expire_pt cb,
    void *arg, uint32_t max)
{
    uint32_t      n;
    uint64_t      next;
    ims_trans_t  *t;

    for (n = 0; n < max; n++) {

        if (p->heap_len == 0 || p->heap[0]->deadline > now) {
            break;
        }

        t = p->heap[0];
        ims_trans_deadline(p, t, 0);

        next = cb(arg, t, now);

        if (next == 0) {
            ims_trans_free(p, t);

        } else {
            ims_trans_deadline(p, t, next > now ? next : now + 1);
        }
    }

    return n;
}


/* -- saved messages ------------------------------------------------------ */

static ims_trans_buf_t *
ims_trans_buf_take(ims_trans_pool_t *p, size_t n)
{
    size_t            size;
    uint32_t          class;
    ims_trans_buf_t  *b;

    class = 0;
    size = IMS_TRANS_BUF_MIN;

    while (size < n && class < IMS_TRANS_CLASSES) {
        size *= 2;
        class++;
    }

    if (class == IMS_TRANS_CLASSES) {
        return NULL;                      /* no SIP message is so long here */
    }

    b = p->free_bufs[class];

    if (b != NULL) {
        p->free_bufs[class] = b->next;
        p->stat.cached -= size;

        return b;
    }

    b = malloc(sizeof(ims_trans_buf_t) + size);

    if (b != NULL) {
        b->size_class = class;
        p->stat.mallocs++;
    }

    return b;
}


void
ims_trans_drop(ims_trans_pool_t *p, ims_trans_buf_t **buf)
{
    size_t            size;
    ims_trans_buf_t  *b;

    b = *buf;
    *buf = NULL;

    if (b == NULL) {
        return;
    }

    size = (size_t) IMS_TRANS_BUF_MIN << b->size_class;

    if (size > p->conf.cache || p->stat.cached > p->conf.cache - size) {
        free(b);
        return;
    }

    b->next = p->free_bufs[b->size_class];
    p->free_bufs[b->size_class] = b;
    p->stat.cached += size;
}


bool
ims_trans_save(ims_trans_pool_t *p, ims_trans_buf_t **buf,
    const ims_str_t *pieces, unsigned npieces)
{
    size_t            n;
    unsigned          i;
    ims_trans_buf_t  *b;

    n = 0;

    for (i = 0; i < npieces; i++) {
        n += pieces[i].n;
    }

    /* the pieces may be of the old one: it goes only when they are copied */

    b = ims_trans_buf_take(p, n);

    if (b != NULL) {
        b->n = 0;

        for (i = 0; i < npieces; i++) {
            if (pieces[i].n) {
                memcpy(b->data + b->n, pieces[i].p, pieces[i].n);
                b->n += (uint32_t) pieces[i].n;
            }
        }
    }

    ims_trans_drop(p, buf);
    *buf = b;

    return b != NULL;
}


/* -- sending again ------------------------------------------------------- */

void
ims_trans_resend_start(ims_trans_t *t, uint64_t now, uint32_t t1)
{
    t->resend_interval = t1;
    t->resend_at = now + t1;
}


void
ims_trans_resend_next(ims_trans_t *t, uint64_t now, uint32_t max)
{
    /* without a maximum it is the end of the transaction that bounds it */

    if (t->resend_interval <= UINT32_MAX / 2) {
        t->resend_interval *= 2;
    }

    if (max != 0 && t->resend_interval > max) {
        t->resend_interval = max;
    }

    t->resend_at = now + t->resend_interval;
}


void
ims_trans_resend_stop(ims_trans_t *t)
{
    t->resend_at = 0;
    t->resend_interval = 0;
}


uint64_t
ims_trans_due(const ims_trans_t *t)
{
    if (t->resend_at != 0 && t->resend_at < t->until) {
        return t->resend_at;
    }

    return t->until;
}


bool
ims_trans_resend_due(const ims_trans_t *t, uint64_t now)
{
    return t->resend_at != 0 && t->resend_at <= now && now < t->until;
}


bool
ims_trans_again(uint64_t now, uint64_t looked, uint64_t delay, uint64_t end,
    uint64_t *first_write)
{
    uint64_t  last;

    last = looked + delay / 2;

    if (last > end) {
        last = end;
    }

    if (now >= last) {
        return false;
    }

    if (*first_write > last) {
        *first_write = last;
    }

    return true;
}
