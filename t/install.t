#!/usr/bin/perl

# Copyright (C) nginx-ims contributors

# make install, into a folder: everything is there and runs; manual pages are
# well formed and know each command; completion offers what the program has.

###############################################################################

use warnings;
use strict;

use Test::More;

use Cwd qw/ abs_path /;
use File::Temp qw/ tempdir /;
use FindBin;
use lib "$FindBin::Bin/lib";

use ImsPool;

select STDERR; $| = 1;
select STDOUT; $| = 1;

###############################################################################

my $top = "$FindBin::Bin/..";
my $dir = tempdir('ims-install-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
my $out = abs_path(ImsPool->mgr() =~ s{/[^/]*$}{}r);

sub slurp {
	open my $f, '<', $_[0] or die "$_[0]: $!";
	local $/;
	return scalar <$f>;
}

sub run {
	my $text = `$_[0] 2>&1`;
	return $? >> 8, $text;
}

is((run("$top/scripts/build-man --bin $out --out $dir/man"))[0], 0,
	'manual pages');
my ($status, $text) = run("mandoc -T lint -W warning $dir/man/*.8");
is("$status$text", '0', 'well formed');

# an installation of what was built, as a package would do it

mkdir "$dir/out";
symlink "$out/$_", "$dir/out/$_"
	for qw/ ims-poolmgr ims-poolctl ngx_http_ims_module.so /;
symlink "$dir/man", "$dir/out/man";

($status, $text) = run("$top/scripts/install --prefix /opt/ims"
	. " --destdir $dir/root --out $dir/out");
is($status, 0, 'installed') or diag($text);

my $root = "$dir/root/opt/ims";
like((run("$root/bin/ims-poolctl --version"))[1], qr/^ims-poolctl \d/,
	'ims-poolctl');
like((run("$root/sbin/ims-poolmgr --version"))[1], qr/^ims-poolmgr \d/,
	'ims-poolmgr');
is(scalar(() = glob "$dir/root/usr/*/nginx/modules/ngx_http_ims_module.so"), 1,
	'the module');

my $unit = slurp("$root/lib/systemd/system/ims-poolmgr.service");
like($unit, qr{^ExecStart=/opt/ims/sbin/ims-poolmgr }m,
	'the unit starts what was installed');
ok(-s "$root/lib/$_", $_) for qw{
	systemd/system/ims-poolmgr.socket
	systemd/system/ims-pool-metrics.service
	systemd/system/ims-pool-metrics.timer
	sysusers.d/ims-pool.conf tmpfiles.d/ims-pool.conf };

# each command and option has its place in the page

for my $program (qw/ ims-poolctl ims-poolmgr /) {
	my $page = (run("mandoc -T utf8 $root/share/man/man8/$program.8"))[1];
	$page =~ s/.\x08//g;
	my $flat = $page =~ s/\s+/ /gr;

	my $help = (run("$out/$program --help"))[1];
	my @words = $help =~ /(--[a-z][a-z-]+)/g;

	if ($program eq 'ims-poolctl') {
		for my $command ($help =~ /^  ([a-z]+(?: [a-z]+)?)  *[a-z]/mg) {
			my $more = (run("$out/$program $command --help"))[1];
			push @words, $command, $more =~ /(--[a-z][a-z-]+)/g;
		}
	}

	cmp_ok(scalar @words, '>', 10, "$program: words");
	is_deeply([grep { index($flat, $_) == -1 } @words], [],
		"$program: all in its page");
}

# completion

my $p = ImsPool->new();
$p->pool($_) for qw/ web wide other /;

my $socket = $p->socket();
open my $f, '>', "$dir/complete" or die $!;
print $f <<'EOF';
export IMS_POOL_SOCKET=$1
program=$2
. "$3"
shift 3
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_ims_poolctl "$program" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' ' '
EOF
close $f;

sub complete {
	my (@words) = @_;

	open my $c, '-|', 'bash', "$dir/complete", $socket,
		"$root/bin/ims-poolctl",
		"$root/share/bash-completion/completions/ims-poolctl",
		'ims-poolctl', @words or die $!;
	local $/;
	return scalar(<$c> // '') =~ s/\s+$//r;
}

is(complete('pi'), 'ping', 'a command');
like(complete(''), qr/\bacquire\b.*\bpool\b.*\bshow\b/, 'commands');
is(complete('pool', 'd'), 'disable drop', 'its second word');
is(complete('pool', 'stat', 'w'), 'web wide', 'a pool');
is(complete('-s', $socket, 'pool', 'stat', 'o'), 'other',
	'behind an option with a value');
is(complete('pool', 'create', 'x', 'y', '--ttl'), '--ttl --ttl-max', 'options');
is(complete('list', '--state', 'l'), 'leased', "an option's value");
is(complete('revoke', ''), 'impu lease pool user', 'what to revoke');
is(complete('revoke', 'pool', 'w'), 'web wide', 'of which pool');
is(complete('import', 'web', "$dir/ou"), "$dir/out", 'a file');
is(complete('nothing', ''), '', 'of nothing, nothing');

$p->stop();
is(complete('pool', 'stat', 'w'), '', 'no daemon, no pools');
unlike($p->log(), qr/\[(?:alert|emerg)\]|runtime error|AddressSanitizer/,
	'no alerts');

done_testing();
