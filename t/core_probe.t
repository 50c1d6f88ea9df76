#!/usr/bin/perl

# Tests for ims_core_probe: a core that does not answer OPTIONS gets no
# REGISTER, until it does.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); push @INC, 'lib'; }

use Time::HiRes qw/ time /;

use Ims;
use ImsClient;
use ImsCore;
use ImsSip;
use Test::Nginx;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->has_daemon('openssl')->plan(14);

ims_keys($t);
ims_pool($t, size => 20);

my %o = (http => 'ims_core_probe 2s;',
    core => "server 127.0.0.1:8060 max_fails=1 fail_timeout=3s;\n"
          . "server 127.0.0.1:8061 max_fails=1 fail_timeout=3s;");

my ($good, $out) = ims_conf_error($t, ims_conf($t, http =>
    'ims_core_probe 10ms;'));
ok(!$good && $out =~ /"ims_core_probe" must be off or at least 1s/,
    'too often');

$t->write_file_expand('nginx.conf', ims_conf($t, %o));

my $a = ImsCore->new(port(8060));
my $b = ImsCore->new(port(8061));

$t->run();

###############################################################################

# both are asked, again and again

my ($m, $link) = $a->request(5);
is($m && $m->{method}, 'OPTIONS', 'OPTIONS');
like($m->{text}, qr/^OPTIONS sip:127\.0\.0\.1:${\port(8060)} /, 'to it');
like(sip_header($m, 'Via'), qr/127\.0\.0\.1:\d+;branch=z9hG4bK/, 'Via');
$a->reply($link, $m, 200, 'OK');

($m, $link) = $b->request(5);
is($m && $m->{method}, 'OPTIONS', 'the other one, too');

# b says nothing more: all REGISTERs go to a

ok(answer($a, sub { ims_count_log($t, qr/does not answer OPTIONS/) }),
    'silence is noticed');
is(ims_status()->{counters}{probe_failed} > 0, 1, 'counted');

my @to = map { registered() } 1 .. 4;
is("@to", 'a a a a', 'no REGISTER to it');

# it answers again: after its fail_timeout it is one of two

both_answer(5);
my $before = ims_status()->{counters};
both_answer(4);
my $counters = ims_status()->{counters};
cmp_ok($counters->{response_unmatched} - $before->{response_unmatched}, '<=',
    $counters->{probe_failed} - $before->{probe_failed},
    'all answers are known, but late ones');
is(ims_count_log($t, qr/answers OPTIONS again/), 1, 'its answer is noticed');
@to = map { registered() } 1 .. 4;
like("@to", qr/^(?=.*a).*b/, 'both take REGISTERs');

# one that says 503 is alive, but wants none; meanwhile it may have been silent

both_answer(5);

ok(ims_wait(5, sub {
    my ($m, $link) = $b->request(0.1);
    $b->reply($link, $m, 503, 'Service Unavailable')
        if $m && $m->{method} eq 'OPTIONS';
    answer($a, undef, 0.1);
    ims_count_log($t, qr/answers OPTIONS with 503/);
}), '503 is noticed');
@to = map { registered() } 1 .. 4;
is("@to", 'a a a a', 'and heeded');

$counters = ims_status()->{counters};
cmp_ok($counters->{response_unmatched}, '<=', $counters->{probe_failed},
    'and an answer that comes after all is one to nothing');

###############################################################################

# what they are asked, for so many seconds

sub both_answer {
    my ($seconds) = @_;

    my $end = time() + $seconds;

    while (time() < $end) {
        answer($a, undef, 0.1);
        answer($b, undef, 0.1);
    }
}


# answers what a core is asked, until something is true

sub answer {
    my ($core, $until, $seconds) = @_;

    my $end = time() + ($seconds // 20);

    while (time() < $end) {
        return 1 if $until && $until->();

        my ($m, $link) = $core->request(0.1);
        $core->reply($link, $m, 200, 'OK') if $m;
    }

    return $until ? $until->() : 1;
}


# a new client: who got its REGISTER

sub registered {
    my $c = ImsClient->new();

    $c->send($c->{ua}->register());

    for (1 .. 50) {
        for (['a', $a], ['b', $b]) {
            my ($name, $core) = @$_;
            my ($m, $link) = $core->request(0.05) or next;

            if ($m->{method} eq 'REGISTER') {
                $core->reply($link, $m, 200, 'OK');
                return ($c->answer()->{status} // 0) == 200 ? $name : '-';
            }

            $core->reply($link, $m, 200, 'OK')
                if $core == $a;
        }
    }

    return 'none';
}

###############################################################################
