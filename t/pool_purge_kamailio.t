#!/usr/bin/perl

# Tests for purges by the edge at Kamailio: what was left behind goes, the
# identity is given on soon, and nothing of its new holder is touched.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw/ sleep time /;

use Ims;
use ImsClient;
use ImsPurge;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')
    ->has_daemon('kamailio')->plan(31);

my $dir = $t->testdir();

ims_keys($t);
ims_purge_pool($t, size => 1);
ims_poolctl($t, 'pool', 'create', 'two', 'ims.example', qw/ --delay 1
    --margin 1 --purge on /);
ims_poolctl($t, 'import', 'two', '--range', "sip:two-[1-1]\@ims.example",
    '--range', "sip:alias-[1-1]\@ims.example");

mkdir "$dir/subscriptions";
table('version', "table_name(string) table_version(int)\n", 'impi:1',
    'associated:1');
my $columns = 'key_name(string) key_type(int) value_type(int) '
    . "key_value(string) expires(int,null)\n";
table('impi', $columns, map { "$_->[0]:0:0:$_->[1]\@ims.example:0" }
    ['sip\:web-000001@ims.example', 'web-000001'],
    ['sip\:two-1@ims.example', 'two-1'],
    ['sip\:alias-1@ims.example', 'two-1']);
table('associated', $columns,
    'web-000001@ims.example:0:0:<sip\:web-000001@ims.example>:0',
    'two-1@ims.example:0:0:<sip\:two-1@ims.example>, '
        . '<sip\:alias-1@ims.example>:0');

ims_core($t, defines => ["SUBSCRIPTIONS=\"text://$dir/subscriptions\""]);

$t->write_file_expand('nginx.conf', ims_conf($t, workers => 2,
    issuer => 'pool two;'));
$t->run();

###############################################################################

my ($status, $reply, $i, $bindings);

# alice registers, and leaves more behind than the edge knows of

my $alice = ImsClient->new(user => 'alice');
my $impu = $alice->{id}{impu};
is(registered($alice), 200, 'alice registers');
is(left($impu, $_), 200, "a binding that was forgotten, $_") for 1 .. 3;
is(scalar bindings($impu), 4, 'all of them');

is(ims_identity(user => 'bob')->{status}, 503, 'no identity for bob');

my $ended = time();
is(ims_identity(user => 'alice', method => 'DELETE',
    query => "lease=$alice->{id}{lease}",
    cookie => $alice->{cookie})->{status}, 204, 'alice gives it back');

ok(ims_wait(10, sub { !bindings($impu) }), 'nothing is left at the core');
cmp_ok(time() - $ended, '>', 1, 'not before D');
ok(ims_wait_log($t, qr/pool web lease \Q$alice->{id}{lease}\E purged/),
    'purged');

ok(ims_wait(10, sub {
    ($reply = ims_identity(user => 'bob'))->{status} == 200;
}), 'and bob has it soon');
cmp_ok(time() - $ended, '<', 60, 'where it would have rested ten minutes');
is($reply->{json}{impu}, $impu, 'the same one');

# nothing late takes away what bob has

my $bob = ImsClient->new(user => 'bob');
is($bob->{id}{impu}, $impu, 'bob again');
is(registered($bob), 200, 'bob registers');
my @own = bindings($impu);
is(scalar @own, 1, 'his binding alone');
is($own[0]{contact}, $bob->{ua}->contact(), 'his own');
sleep 3;
is_deeply([map { $_->{contact} } bindings($impu)], [$own[0]{contact}],
    'it stays');

my @stars = grep { /^Contact: \*\r$/m } ims_core_log($t);
is(scalar @stars, 1, 'one "*" in all');
like($stars[0], qr/^To: <\Q$impu\E>\r$/m, 'of that identity');

# one of which nothing is left: Kamailio says 200 as well

is((ims_poolctl($t, 'revoke', 'lease', $bob->{id}{lease}))[0], 0,
    'bob loses it');
ok(ims_wait(3, sub { !bindings($impu) }), 'the edge has taken his away');
ok(ims_wait_log($t, qr/pool web lease \Q$bob->{id}{lease}\E purged/),
    'purged all the same');

# an identity of two IMPUs, both with a binding

$i = ims_ended($t, pool => 'two', live => 1);
is(left($_, 1, impi => $i->{impi}), 200, "left behind: $_")
    for @{$i->{impu}};
ims_poolctl($t, 'revoke', 'lease', $i->{lease});
ok(ims_wait_log($t, qr/pool two lease \Q$i->{lease}\E purged/),
    'an identity of two IMPUs');
is(scalar(map { bindings($_) } @{$i->{impu}}), 0, 'nothing of either is left');
ok(ims_rest($t, $i) <= 1, 'it rests for the margin');

my $counters = ims_status()->{counters};
is($counters->{purge_done}, 3, 'three purges');
is($counters->{purge_failed} + $counters->{purge_skipped}, 0, 'no other');
is(scalar(grep { /^Contact: \*\r$/m } ims_core_log($t)), 4,
    'of four IMPUs, each once');

###############################################################################

sub registered {
    my ($c) = @_;

    $c->send($c->{ua}->register());

    return $c->answer()->{status};
}


# as an edge that died before it wrote down what it had sent

sub left {
    my ($aor, $n, %o) = @_;

    my ($impi) = $aor =~ /^sip:(.*)/;
    $impi = $o{impi} // $impi;

    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1:' . port(8060))
        or die "core: $!\n";

    print $s join "\r\n", 'REGISTER sip:ims.example SIP/2.0',
        "Via: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK$n" . int rand 1e9,
        'Max-Forwards: 70', "From: <$aor>;tag=$n", "To: <$aor>",
        "Call-ID: left$n" . int rand 1e9, "CSeq: 99 REGISTER",
        "Contact: <sip:left$n\@x.invalid>;expires=600",
        'Authorization: Digest username="' . $impi . '",realm="ims.example",'
            . 'nonce="",uri="sip:ims.example",response="",'
            . 'integrity-protected="auth-done"',
        'Path: <sip:127.0.0.1:9;transport=tcp;lr;ob>', 'Supported: path',
        'Content-Length: 0', '', '';

    IO::Select->new($s)->can_read(5);
    sysread $s, my $answer, 65536;

    return $answer =~ m{^SIP/2\.0 (\d+)} ? $1 : 0;
}


sub bindings {
    my ($aor) = @_;

    my ($user) = $aor =~ /^sip:(.*)/;

    return @{ims_core_bindings($t)->{$user} // []};
}


sub table {
    my ($name, @lines) = @_;

    my $head = shift @lines;

    $t->write_file("subscriptions/$name", $head
        . join('', map { "$_\n" } @lines));
}

###############################################################################
