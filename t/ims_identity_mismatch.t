#!/usr/bin/perl

# Tests for ims_identity with a pool manager that lies: answers swapped,
# doubled, cut, of another session, not fit to be signed, and every error.
# None of it may become a token.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use IO::Select;
use IO::Socket::UNIX;
use Time::HiRes qw/ sleep time /;

use Ims;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl');

# what the lie is (in the user's name), and the code in the JSON

my @errors = (
    [ 'EXHAUSTED 17', 'pool_exhausted', 17 ],
    [ 'HOLD 40', 'pool_hold', 40 ],
    [ 'LATE', 'unavailable', 1 ],
    [ 'UNKNOWN done or not', 'unavailable', 1 ],
    [ 'BUSY', 'unavailable', 1 ],
    [ 'NOPOOL no pool of this name', 'refused', 1 ],
    [ 'DENIED', 'refused', 1 ],
    [ 'NOSPACE', 'refused', 1 ],
    [ 'BADARG malformed sid', 'refused', 1 ],
    [ 'INTERNAL', 'refused', 1 ],
    [ 'EXHAUSTEDX 9', 'refused', 9 ],
    [ 'EXHAUSTED soon', 'pool_exhausted', 1 ],
);

my @unfit = (
    [ 'sid=0123456789abcdef', 'for another session or pool' ],
    [ 'sid=', 'for another session or pool' ],
    [ 'pool=other', 'for another session or pool' ],
    [ 'lease=1-1', 'malformed lease' ],
    [ 'lease=000000010000000x-0000000000000001', 'malformed lease' ],
    [ 'holder=short', 'malformed holder tag' ],
    [ 'holder=AAAAAAAAAAAAAAAAAAAAA+', 'malformed holder tag' ],
    [ 'impi=a b@ims.example', 'unacceptable IMPI' ],
    [ 'impi=none', 'unacceptable IMPI' ],
    [ 'impu=', 'unacceptable or too many IMPUs' ],
    [ 'impu=sip:a@ims.example%0d%0aX: y', 'unacceptable or too many IMPUs' ],
    [ 'impu=http://ims.example', 'unacceptable or too many IMPUs' ],
    [ 'impu*9', 'unacceptable or too many IMPUs' ],
    [ 'impu*0', 'no IMPU' ],
    [ 'end=100001999', 'less than two seconds' ],
    [ 'end=99999999', 'malformed times' ],
    [ 'end=1e9', 'malformed times' ],
    [ 'now=', 'malformed times' ],
);

my @broken = (
    'nonce=' . '0' x 32, 'nonce=', 'nonce*0', '+OK', '#1', '$3', '*0',
    'HTTP/1.1 400 Bad', 'double', '$99999999999', '*1000',
);

$t->plan(3 * @errors + 2 * @unfit + 2 * @broken + 27);

ims_keys($t);

my $d = $t->testdir();

my $conf = ims_conf($t);
$conf =~ s{socket=\S+}{socket=$d/fake.sock timeout=2s};

$t->write_file_expand('nginx.conf', $conf);
$t->run_daemon(\&fake, $t);
$t->waitforfile("$d/fake.sock");
$t->run();

my $alert = qr/\[alert\].* is out of step \(wwsf\)/;
my $alerts = 0;

###############################################################################

my $r = ims_identity(user => 'honest');

is($r->{status}, 200, 'an honest answer');
is($r->{json}{impu}, 'sip:honest@ims.example', 'for the right user');

# split at every byte

is(ims_identity(user => 'slow')->{json}{impu}, 'sip:slow@ims.example',
    'an honest answer, byte by byte');

for (@errors) {
    my ($error, $code, $after) = @$_;
    my $r = ims_identity(user => "-$error");

    is($r->{status}, 503, $error);
    is($r->{json}{error}, $code, "$error, code");
    ok($r->{json}{retry_after} == $after
        && $r->{headers} =~ /^Retry-After: $after\r?$/mi, "$error, after");
}

is(ims_identity(user => '-ENDED', method => 'DELETE',
    cookie => 'ims_session=' . '0' x 16 . '.' . '0' x 32,
    query => 'lease=0000000000000001-0000000000000001')->{status}, 409,
    'ended');
is(ims_identity(user => 'lease=0000000000000001-0000000000000002',
    method => 'DELETE',
    cookie => 'ims_session=' . '0' x 16 . '.' . '0' x 32,
    query => 'lease=0000000000000001-0000000000000001')->{status}, 503,
    'release of another lease');

for (@unfit) {
    my ($lie, $says) = @$_;
    my $r = ims_identity(user => $lie);

    ok($r->{status} == 503 && !exists $r->{json}{token}, $lie);
    ok(ims_wait_log($t, qr/no token signed: .*$says/), "$lie, logged");
}

is(ims_count_log($t, $alert), 0, 'in step so far');

# answers out of step: the connection is given up, with all that wait

for my $lie (@broken) {
    my $r = ims_identity(user => $lie);

    ok($r->{status} == 503 || $lie eq 'double', $lie);
    ok(ims_wait_log($t, $alert, count => ++$alerts), "$lie, alert");
}

# swapped

my ($s1, $s2) = map { post($_, start => 1) } qw/ swap1 swap2 /;

like(all_of($s1), qr/ 503 .*"unavailable"/s, 'swapped, one');
like(all_of($s2), qr/ 503 .*"unavailable"/s, 'swapped, other');
ok(ims_wait_log($t, $alert, count => ++$alerts), 'swapped, alert');
is(ims_count_log($t, qr/identity given: .*swap/), 0, 'no token');

# one leaves, the other's answer stays its own

($s1, $s2) = map { post($_, start => 1) } qw/ order1 order2 /;
close $s1;

like(all_of($s2), qr/sip:order2\@ims\.example/, 'one left the line');

# delayed beyond the deadline: too late for one, still no other's

is(ims_identity(user => 'late')->{status}, 503, 'late');
is(ims_identity(user => 'honest')->{json}{impu}, 'sip:honest@ims.example',
    'the late answer is nobody else\'s');
is(ims_count_log($t, $alert), $alerts, 'and in step');

# dropped: the next one's answer is not taken for it, nor it for the next one's

($s1, $s2) = map { post($_, start => 1) } qw/ drop1 drop2 /;

like(all_of($s1), qr/ 503 .*"unavailable"/s, 'dropped');
like(all_of($s2), qr/ 503 .*"unavailable"/s, 'the next one, out of step');
ok(ims_wait_log($t, $alert, count => ++$alerts), 'dropped, alert');
is(ims_count_log($t, qr/identity given: .*drop/), 0, 'no token');
is(ims_identity(user => 'honest')->{json}{impu}, 'sip:honest@ims.example',
    'in step again');

# gone in the middle of an answer

is(ims_identity(user => 'cut')->{status}, 503, 'cut');
ok(ims_wait(3, sub { ims_identity(user => 'honest')->{status} == 200 }),
    'and on a new connection');

# it does not know us

is(ims_identity(user => 'forget')->{status}, 503, 'closed');
ok(ims_wait_log($t, qr/does not know our secret \(wwsf\)/),
    'a wrong secret');
ok(ims_wait(5, sub { ims_identity(user => 'honest')->{status} == 200 }),
    'until it does');

my $c = ims_status()->{counters};

is($c->{identity_mismatch}, $alerts + 4, 'mismatches counted');
ok($c->{identity_exhausted} == 2 && $c->{identity_hold} == 1
    && $c->{identity_conflict} == 1, 'errors counted');

# their alerts were what this test is about

my $log = $t->read_file('error.log');

$log =~ s/^.*$alert.*\n//mg;
$t->write_file('error.log', $log);

is(() = $log =~ /\[alert\]/g, 0, 'no other alert');

###############################################################################

sub post {
    my ($user, %o) = @_;

    require MIME::Base64;

    return http("POST /ims/identity HTTP/1.0\r\nHost: localhost\r\n"
        . "Origin: http://localhost\r\nAuthorization: Basic "
        . MIME::Base64::encode_base64("$user:", '') . "\r\n\r\n", %o);
}


# the rest of an answer

sub all_of {
    my ($s) = @_;

    my $all = '';
    my $sel = IO::Select->new($s);

    while ($sel->can_read(8)) {
        sysread $s, my $bytes, 65536 or last;
        $all .= $bytes;
    }

    return $all;
}


# a pool manager whose answer is in the user's name

sub fake {
    my ($t) = @_;

    my $path = $t->testdir() . '/fake.sock';
    my $l = IO::Socket::UNIX->new(Local => $path, Listen => 16)
        or die "$path: $!\n";

    my $sel = IO::Select->new($l);
    my (%in, @held, $refuse);

    $SIG{PIPE} = 'IGNORE';

    while (1) {
        for my $s ($sel->can_read(0.2)) {

            if ($s == $l) {
                my $new = $l->accept() or next;
                $sel->add($new);
                $in{$new} = '';
                next;
            }

            if (!sysread $s, my $bytes, 65536) {
                $sel->remove($s);
                close $s;
                @held = ();
                next;

            } else {
                $in{$s} .= $bytes;
            }

            while (my @args = command(\$in{$s})) {

                if ($args[0] eq 'AUTH') {
                    answer($s, $refuse ? "-WRONGPASS\r\n" : "+OK\r\n");
                    $refuse = 0;
                    next;
                }

                if ($args[0] eq 'PURGE') {
                    answer($s, "*0\r\n");     # nothing to be purged
                    next;
                }

                my $user = $args[3];

                if ($user =~ /^(?:swap|order|drop)/) {
                    push @held, [ $s, $user, lease(@args) ];
                    next if @held < 2;

                    # (whoever came first)

                    my @order = $user =~ /^swap/ ? (1, 0)
                        : $user =~ /^drop/ ? (1) : (0, 1);
                    sleep 0.3;
                    answer($s, join '', map { $held[$_][2] } @order);
                    @held = ();

                } elsif ($user eq 'slow') {
                    answer($s, $_), sleep 0.0003
                        for split //, lease(@args);

                } elsif ($user eq 'late') {
                    sleep 3;
                    answer($s, lease(@args));

                } elsif ($user eq 'cut' || $user eq 'forget') {
                    $refuse = $user eq 'forget';
                    answer($s, substr lease(@args), 0, 100);
                    $sel->remove($s);
                    close $s;
                    last;

                } elsif ($user eq 'double') {
                    answer($s, lease(@args) x 2);

                } elsif ($user =~ /^-|^\+|^#|^HTTP|^\*/) {
                    answer($s, ($user =~ s/^#/:/r) . "\r\n");

                } elsif ($user =~ /^\$/) {
                    answer($s, "$user\r\nabc\r\n");

                } else {
                    answer($s, lease(@args));
                }
            }
        }
    }
}


sub answer {
    my ($s, $bytes) = @_;

    syswrite $s, $bytes;
}


# one whole command out of the buffer, or nothing

sub command {
    my ($buf) = @_;

    my ($rest, @args) = $$buf;

    $rest =~ s/^\*(\d+)\r\n// or return;

    for (1 .. $1) {
        $rest =~ s/^\$(\d+)\r\n// && length($rest) >= $1 + 2 or return;
        push @args, substr $rest, 0, $1;
        substr($rest, 0, $1 + 2) = '';
    }

    $$buf = $rest;

    return @args;
}


# the answer to ACQUIRE or RELEASE, with the lie that the name asks for

sub lease {
    my ($command, $pool, $realm, $user, @rest) = @_;

    my $asked = $command eq 'RELEASE' ? shift @rest : undef;
    my ($sid, $nonce) = @rest;

    my ($lie, $how, $what) = $user =~ /^(\w+)([=*])(.*)$/;
    my $who = $lie ? 'liar' : $user;

    my @all = (
        [ nonce => $nonce ],
        [ lease => $asked // '0000000100000001-0000010000000001' ],
        [ sid => $sid ],
        [ holder => 'AAAAAAAAAAAAAAAAAAAAAA' ],
        [ pool => $pool ],
        [ home => 'ims.example' ],
        [ impi => "$who\@ims.example" ],
        [ impu => "sip:$who\@ims.example" ],
        [ display => '' ],
        [ now => 100000000 ],
        [ end => 100060000 ],
        [ ttl => 60000 ],
        [ state => 'new' ],
    );

    @all = map {
        my ($k, $v) = @$_;
        !defined $lie || $lie ne $k ? [ $k, $v ]
            : $how eq '=' ? [ $k, $what ] : map { [ $k, $v ] } 1 .. $what;
    } @all;

    return sprintf('*%d', 2 * @all) . "\r\n"
        . join '', map { sprintf "\$%d\r\n%s\r\n", length, $_ }
          map { @$_ } @all;
}

###############################################################################
