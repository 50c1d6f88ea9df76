# nginx-ims: builds the nginx module, the pool manager and the tests.
#
#   make                 module (build/ngx_http_ims_module.so), ims-poolmgr, ims-poolctl
#   make unit            build and run the unit tests (cmocka)
#   make world           the world test by hand (build/world --help)
#   make fuzz            build the fuzz targets (clang, libFuzzer); fuzz-run runs them
#   make install         module to the distribution's module directory; programs,
#                        manual pages, completion and units below PREFIX
#   ASAN=1               everything with AddressSanitizer and UBSan, below build/asan
#   NGINX_SRC=DIR        build against that nginx source tree, not Debian's nginx-dev

CC      ?= cc
CLANG   ?= clang
PREFIX  ?= /usr/local
DESTDIR ?=

ifeq ($(ASAN),1)
B       := build/asan
SAN     := -fsanitize=address,undefined -fno-sanitize-recover=undefined \
           -fno-omit-frame-pointer
else
B       := build
SAN     :=
endif

WARN    := -Wall -Wextra -Wpointer-arith -Wshadow -Wstrict-prototypes \
           -Wmissing-prototypes -Werror
CFLAGS  ?= -O2 -g
ALLC    := -std=gnu11 $(CFLAGS) $(WARN) $(SAN) -fPIC -D_GNU_SOURCE \
           -Ingx_module -Ipoolmgr -I.

# the pure C parts, shared by module, pool manager and tests
PURE    := $(wildcard ngx_module/base/*.c ngx_module/sip/*.c ngx_module/ws/*.c \
           ngx_module/token/*.c ngx_module/reg/*.c ngx_module/flow/*.c \
           ngx_module/proxy/*.c \
           poolmgr/ims_pool_*.c)
PURE_O  := $(PURE:%.c=$B/obj/%.o)
LIB     := $B/libims.a
LIBS    := -ljwt -ljansson -llmdb -lexpat -lcrypto -lpthread

MGR_O   := $(patsubst %.c,$B/obj/%.o,$(wildcard poolmgr/mgr_*.c))
CTL_O   := $(patsubst %.c,$B/obj/%.o,$(wildcard poolmgr/ctl_*.c))

UNIT    := $(patsubst t/unit/%.c,$B/unit/%,$(wildcard t/unit/*_test.c))
FUZZ    := $(patsubst fuzz/%.c,build/fuzz/%,$(wildcard fuzz/fuzz_*.c))

PROGS   := $(if $(MGR_O),$B/ims-poolmgr) $(if $(CTL_O),$B/ims-poolctl)

.PHONY: all lib module progs man unit world fuzz fuzz-run install clean
.SECONDARY:

all: module progs man

lib: $(LIB)
progs: $(PROGS)

$B/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALLC) -MMD -MP -c -o $@ $<

$(LIB): $(PURE_O)
	@rm -f $@
	ar rcs $@ $^

$B/ims-poolmgr: $(MGR_O) $(LIB)
	$(CC) $(SAN) -o $@ $(MGR_O) $(LIB) -luv $(LIBS)

$B/ims-poolctl: $(CTL_O) $(LIB)
	$(CC) $(SAN) -o $@ $(CTL_O) $(LIB) -lhiredis $(LIBS)

$B/unit/%: $B/obj/t/unit/%.o $(LIB)
	@mkdir -p $(@D)
	$(CC) $(SAN) -o $@ $< $(LIB) -lcmocka $(LIBS)

# the world test: rules within the libraries are broken by --wrap
WORLD_O := $(patsubst %.c,$B/obj/%.o,$(wildcard t/world/*.c))
WRAP    := -Wl,--wrap=ims_pool_check_lease,--wrap=ims_reg_judge

$B/world: $(WORLD_O) $(LIB)
	$(CC) $(SAN) $(WRAP) -o $@ $^ -ldl $(LIBS)

$B/unit/world_test: $B/obj/t/unit/world_test.o $(WORLD_O) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(SAN) $(WRAP) -o $@ $(filter-out %/world_main.o,$^) -ldl \
	    -lcmocka $(LIBS)

world: $B/world

unit: $(UNIT) $(PROGS)
	@scripts/unit $(UNIT)

# manual pages, from the programs' own help
man: progs
	@scripts/build-man --bin $B --out $B/man

# the module itself: nginx's own configure, in a copy of its source tree
module:
	@scripts/build-module $(if $(filter 1,$(ASAN)),--asan) --out $B

# fuzz targets compile the pure sources once more, instrumented
build/fuzz/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG) -std=gnu11 -O1 -g -D_GNU_SOURCE -DIMS_FUZZ \
	    -fsanitize=fuzzer-no-link,address,undefined \
	    -Ingx_module -Ipoolmgr -I. -MMD -MP -c -o $@ $<

build/fuzz/%: build/fuzz/obj/fuzz/%.o $(PURE:%.c=build/fuzz/obj/%.o)
	$(CLANG) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LIBS)

fuzz: $(FUZZ)

fuzz-run: fuzz
	@scripts/fuzz $(FUZZ)

install: all
	@scripts/install --prefix "$(PREFIX)" --destdir "$(DESTDIR)" --out $B

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
